// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/ops/short_conv.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

namespace {

template <bool Bias, int Copies>
struct Convolved {
  static constexpr std::string_view name = "convolved";
  static constexpr Value forward(Value x) {
    return short_conv(x, Copies * x.width(), 4, "conv", {.bias = Bias, .silu = true});
  }
};
}  // namespace

TEST_CASE("short convolutions with silu are proved") {
  REQUIRE(check_layer<Convolved<true, 1>, 5, PlannerProof::each_pass>());
  REQUIRE(check_layer<Convolved<false, 1>, 9>());
  REQUIRE(check_layer<Convolved<true, 3>, 4>());
}

}  // namespace mad::testing
