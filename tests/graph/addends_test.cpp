// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/block.hpp>

#include <string_view>

namespace mad::testing {

namespace {

struct SumOfLinear {
  static constexpr std::string_view name = "sum of linear";
  static constexpr Value forward(Value x) { return x + linear(x, 8, "map"); }
};
struct SumOfLinearWithBias {
  static constexpr std::string_view name = "sum of linear with bias";
  static constexpr Value forward(Value x) { return linear(x, 8, "map", {.bias = true}) + x; }
};
struct SumOfTwoMaps {
  static constexpr std::string_view name = "sum of two maps";
  static constexpr Value forward(Value x) { return linear(x, 8, "one") + linear(x, 8, "other"); }
};
struct LinearReadTwice {
  static constexpr std::string_view name = "linear read twice";
  static constexpr Value forward(Value x) {
    const Value y = linear(x, 8, "map");
    return (x + y) * y;
  }
};
struct SumWithItself {
  static constexpr std::string_view name = "sum with itself";
  static constexpr Value forward(Value x) {
    const Value y = linear(x, 8, "map");
    return y + y;
  }
};
struct SumOfShared {
  static constexpr std::string_view name = "sum with a value all rows share";
  static constexpr Value forward(Value x) {
    return linear(x, 8, "map") + parameter(x, "shift", {.dims = {8}, .rank = 1, .initial = Initial::constant(0.5)});
  }
};
struct SumOfNorm {
  static constexpr std::string_view name = "sum around a norm";
  static constexpr Value forward(Value x) { return x + sigmoid(layer_norm(x)); }
};

struct UnusedSum {
  static constexpr std::string_view name = "unused sum";
  static constexpr Value forward(Value x) {
    const Value y = linear(x, 8, "map");
    [[maybe_unused]] const Value unused = x + y;
    return y;
  }
};

/// Live nodes of an operation in a layer's graph.
template <class L>
int count_of(const Operation& op) {
  using Low = Lowered<L, 8>;
  int count = 0;
  for (int i = 0; i < Low::graph.size; ++i) count += Low::plan.schedule.live[i] && Low::graph.nodes[i].op == &op;
  return count;
}

}  // namespace

TEST_CASE("A kernel that can add a value to its result does so instead of a sum of its own") {
  CHECK(count_of<SumOfLinear>(ops::add_op) == 0);
  CHECK(count_of<SumOfLinear>(ops::linear_sum_op) == 1);
  CHECK(count_of<SumOfLinearWithBias>(ops::add_op) == 0);
  CHECK(count_of<SumOfTwoMaps>(ops::add_op) == 0);
  CHECK(count_of<SumOfNorm>(ops::add_op) == 1);  // the forward pass's, of a sigmoid
  CHECK(count_of<Residual<Norm::rms_norm, SwiGLU>>(ops::linear_sum_op) == 1);
}

TEST_CASE("A sum stays where others need its part, or where rows are repeated") {
  CHECK(count_of<LinearReadTwice>(ops::linear_sum_op) == 0);
  CHECK(count_of<SumWithItself>(ops::linear_sum_op) == 0);
  CHECK(count_of<SumOfShared>(ops::linear_sum_op) == 0);
  CHECK(count_of<UnusedSum>(ops::linear_sum_op) == 0);
  CHECK(count_of<UnusedSum>(ops::linear_op) == 1);
}

TEST_CASE("What is added by another kernel counts as before") {
  CHECK(forward_flops_per_token(Lowered<SumOfLinear, 8>::graph, 1) == 2 * 8 * 8 + 8);
  CHECK(forward_flops_per_token(Lowered<SumOfLinearWithBias, 8>::graph, 1) == 2 * 8 * 8 + 2 * 8);
}

TEST_CASE("Sums that are added by others are differentiated") {
  prove(Layers<SumOfLinear, SumOfLinearWithBias, SumOfTwoMaps, LinearReadTwice, SumWithItself, SumOfShared, SumOfNorm,
               UnusedSum>{});
}

}  // namespace mad::testing
