// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/ops/elementwise.hpp>
#include <mad/ops/selective_scan.hpp>
#include <mad/ops/time_step.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

namespace {

constexpr int states = 3;

constexpr TimeStep steps_of(Value x, int width) {
  const Value weight = parameter(x, "dt.weight", {.dims = {width, x.width()}, .rank = 2});
  return time_step(x, weight, parameter(x, "dt.bias", {.dims = {width}, .rank = 1}));
}
constexpr Value scan(Value u, TimeStep dt, Value maps, Name a, Name skip) {
  const Value log_a = parameter(u, a, {.dims = {u.width(), states}, .rank = 2});
  return selective_scan(u, dt, -exp(log_a), maps, parameter(u, skip, {.dims = {u.width()}, .rank = 1}), u);
}

/// What a scan gives for its time steps is the gradient of the map below softplus.
struct OneScan {
  static constexpr std::string_view name = "one scan";
  static constexpr Value forward(Value x) {
    const Value u = slice(x, 0, 5);
    return scan(u, steps_of(slice(x, 3, 4), 5), linear(x, 2 * states, "maps"), "a", "d");
  }
};
/// Two scans take the same time steps, whose gradients add up below softplus as well.
struct TwoScans {
  static constexpr std::string_view name = "two scans";
  static constexpr Value forward(Value x) {
    const TimeStep dt = steps_of(x, 5);
    const Value maps = linear(x, 2 * states, "maps");
    return concat(scan(slice(x, 0, 5), dt, maps, "a", "d"), scan(tanh(slice(x, 3, 5)), dt, maps, "a2", "d2"));
  }
};

}  // namespace

TEST_CASE("time steps and the scans that take them are proved") {
  REQUIRE(check_layer<OneScan, 8, PlannerProof::each_pass>());
  REQUIRE(check_layer<TwoScans, 8, PlannerProof::each_pass>());
}

}  // namespace mad::testing
