// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/ops/elementwise.hpp>
#include <mad/ops/gated_short_conv.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

namespace {

struct Both {
  static constexpr std::string_view name = "both";
  static constexpr Value forward(Value x) {
    const auto [gate, product] = gated_short_conv(x, x.width() / 3 * 4, 3, "conv");
    return gate * tanh(product);
  }
};
/// One of the outputs is read by nobody.
struct GateAlone {
  static constexpr std::string_view name = "gate alone";
  static constexpr Value forward(Value x) { return gated_short_conv(x, x.width(), 2, "conv").gate; }
};
struct ProductAlone {
  static constexpr std::string_view name = "product alone";
  static constexpr Value forward(Value x) { return gated_short_conv(x, x.width() / 3, 4, "conv").product; }
};
/// Gradients come in pieces.
struct Slices {
  static constexpr std::string_view name = "slices";
  static constexpr Value forward(Value x) {
    const auto [gate, product] = gated_short_conv(x, x.width(), 3, "conv");
    return concat(slice(gate, 1, 2) * slice(product, 0, 2), slice(product, 3, 1));
  }
};

}  // namespace

TEST_CASE("gated short convolutions are proved") {
  REQUIRE(check_layer<Both, 9, PlannerProof::each_pass>());
  REQUIRE(check_layer<GateAlone, 6, PlannerProof::each_pass>());
  REQUIRE(check_layer<ProductAlone, 6, PlannerProof::each_pass>());
  REQUIRE(check_layer<Slices, 6, PlannerProof::each_pass>());
}

}  // namespace mad::testing
