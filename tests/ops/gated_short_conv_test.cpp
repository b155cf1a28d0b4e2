// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/hyena.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/gated_short_conv.hpp>
#include <mad/ops/linear.hpp>
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
/// Both factors of the gate's gradient come from kernels.
struct GatedMap {
  static constexpr std::string_view name = "gated map";
  static constexpr Value forward(Value x) {
    const auto [gate, product] = gated_short_conv(x, x.width() * 2, 3, "conv");
    return linear(gate * linear(product, gate.width(), "inside"), x.width(), "out");
  }
};
/// One of them is the output's gradient.
struct GatedOutput {
  static constexpr std::string_view name = "gated output";
  static constexpr Value forward(Value x) {
    const auto [gate, product] = gated_short_conv(x, x.width(), 2, "conv");
    return linear(product, x.width(), "inside") * gate;
  }
};
/// The gradient has two parts.
struct GateReadTwice {
  static constexpr std::string_view name = "gate read twice";
  static constexpr Value forward(Value x) {
    const auto [gate, product] = gated_short_conv(x, x.width(), 2, "conv");
    return linear(gate * linear(product, x.width(), "inside"), x.width(), "out") + gate;
  }
};
/// Another value has the same gradient, so that the product is computed for it.
struct SharedGradient {
  static constexpr std::string_view name = "shared gradient";
  static constexpr Value forward(Value x) {
    const auto [gate, product] = gated_short_conv(x, x.width(), 2, "conv");
    return linear((gate + x) * linear(product, x.width(), "inside"), x.width(), "out");
  }
};

template <class L, int Width>
using WithFactors = Lowered<L, Width, all_passes | stored_factors>;

/// The laws of check_layer where kernels get factors.
template <class L, int Width>
Report check_with_factors() {
  Report report;
  report.subject = L::name;
  const CheckOptions options;
  Laws laws(cpu::block<WithFactors<L, Width>, double>, options, report);
  for (const Shape& shape : options.shapes) {
    laws.prove(shape);
    laws.agrees(shape, cpu::block<Lowered<L, Width>, double>, "without factors");
  }
  return report;
}

/// Operands of the gradient operation in a layer's graph.
template <class Low>
int gradient_operands() {
  for (int i = 0; i < Low::graph.size; ++i)
    if (Low::graph.nodes[i].op == &ops::gated_short_conv_gradient_op) return Low::graph.nodes[i].operands;
  return 0;
}
/// Live products of two values.
template <class Low>
int products() {
  int count = 0;
  for (int i = 0; i < Low::graph.size; ++i)
    count += Low::plan.schedule.live[i] && Low::graph.nodes[i].op == &ops::multiply_op;
  return count;
}

}  // namespace

TEST_CASE("a gate's gradient that is a product of stored values is left to the kernel that reads it, where asked for") {
  REQUIRE(check_with_factors<GatedMap, 3>());
  REQUIRE(check_with_factors<GatedOutput, 3>());
  REQUIRE(check_with_factors<GateReadTwice, 3>());
  REQUIRE(check_with_factors<SharedGradient, 3>());
  CHECK(gradient_operands<WithFactors<GatedMap, 3>>() == 6);
  CHECK(gradient_operands<WithFactors<GatedOutput, 3>>() == 6);
  CHECK(gradient_operands<WithFactors<Hyena, 8>>() == 6);
  CHECK(gradient_operands<Lowered<Hyena, 8>>() == 5);
  CHECK(gradient_operands<WithFactors<GateReadTwice, 3>>() == 5);
  CHECK(gradient_operands<WithFactors<Both, 9>>() == 5);  // one factor is computed where it is read
  // The gate's in the forward pass, the gradients of both that it multiplies.
  CHECK(products<Lowered<GatedOutput, 3>>() == 3);
  CHECK(products<WithFactors<GatedOutput, 3>>() == 2);
}

TEST_CASE("gated short convolutions are proved") {
  REQUIRE(check_layer<Both, 9, PlannerProof::each_pass>());
  REQUIRE(check_layer<GateAlone, 6, PlannerProof::each_pass>());
  REQUIRE(check_layer<ProductAlone, 6, PlannerProof::each_pass>());
  REQUIRE(check_layer<Slices, 6, PlannerProof::each_pass>());
}

}  // namespace mad::testing
