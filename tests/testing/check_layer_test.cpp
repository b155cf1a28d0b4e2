// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "scan.hpp"

#include <mad/ops/linear.hpp>

#include <catch.hpp>

namespace mad::testing {

namespace {

using Catch::Matchers::ContainsSubstring;
constexpr PlannerProof one_plan = PlannerProof::none;

template <Mistake M, bool Direct = false>
std::string found(const CheckOptions& options = {}) {
  const Report report = check_layer<ScanLayer<M, Direct>, 16, one_plan>(options);
  CHECK_FALSE(report.ok());
  CHECK(report.failures.size() <= 3);  // a mistake is told once, not at every shape
  return report.text();
}

}  // namespace

TEST_CASE("A correct operation from outside the library holds") {
  REQUIRE(check_layer<ScanLayer<Mistake::none>, 16, PlannerProof::each_pass>());
  REQUIRE(check_layer<ScanLayer<Mistake::none, true>>());
  REQUIRE(check_layer<ScanLayer<Mistake::none>, 5, one_plan>());
}

TEST_CASE("A wrong adjoint is named with its coordinate") {
  CHECK_THAT(found<Mistake::adjoint_factor>(),
             ContainsSubstring("scan, width 16, batch 1, length 1, max length 1: gradient of input[sequence 0, token 0,"
                               " channel") &&
                 ContainsSubstring("analytic") && ContainsSubstring("central difference"));
}

TEST_CASE("One wrong coordinate among many is found along the random direction") {
  // No coordinate is tried alone.
  CHECK_THAT(found<Mistake::last_gradient>({.coordinates = 0}),
             ContainsSubstring("gradient of decay[13]: analytic 0, central difference"));
}

TEST_CASE("A layer that looks ahead is named with the tokens") {
  CHECK_THAT(found<Mistake::looks_ahead>(),
             ContainsSubstring("batch 3, length 2, max length 2: an output depends on a later token: output[sequence "
                               "0, token 0, channel 0] goes from") &&
                 ContainsSubstring("when token 1 of sequence 0 changes"));
}

TEST_CASE("A layer that mixes sequences is named") {
  CHECK_THAT(found<Mistake::mixes_sequences>(),
             ContainsSubstring("an output depends on another sequence: output[sequence 1, token 0, channel 0]") &&
                 ContainsSubstring("when token 0 of sequence 0 changes"));
}

TEST_CASE("Gradients that are overwritten are named") {
  CHECK_THAT((found<Mistake::overwrites, true>()),
             ContainsSubstring("gradients must be added to what is there: gradient of decay[0] is"));
  // Collected over micro-batches before it reaches the parameter.
  CHECK_THAT((found<Mistake::overwrites, false>()),
             ContainsSubstring("gradients must be added to what is there: gradient of decay[0] is"));
}

TEST_CASE("Memory that is not written is named") {
  CHECK_THAT(found<Mistake::leaves_a_hole>(),
             ContainsSubstring("output[sequence 0, token 0, channel 0] is nan: memory is read before it is written"));
}

TEST_CASE("A layer that remembers its calls is named") {
  CHECK_THAT(found<Mistake::keeps_a_state>(), ContainsSubstring("a second run differs: output[sequence 0, token 0,"));
}

TEST_CASE("A layer that writes what it only may read is named") {
  CHECK_THAT(found<Mistake::writes_its_input>(), ContainsSubstring("what is only read was overwritten: gradient of"));
}

namespace {

/// Its adjoint claims a memory that it does not have: correct as planned, wrong where a plan saves nothing.
constexpr void double_adjoint(Differentiator& d, int node) {
  // As if the passes changed the mathematics: with recomputation the operand is a clone, behind the forward pass.
  const Value x = d.operand(node, 0);
  const bool cloned = x.id >= x.graph->forward_size;
  d.add(d.node(node).operand[0], d.adjoint(node) * (cloned ? 1.0 : 1.0 + 1e-9));
}
inline constexpr Operation plan_dependent_op{
    .name = "plan dependent", .kind = Kind::elementwise, .cheap = true, .adjoint = &double_adjoint};

struct PlanDependent {
  static constexpr std::string_view name = "plan dependent";
  static constexpr Value forward(Value x) {
    return ops::make(*x.graph, plan_dependent_op, x.domain(), x.width(), x * 2.0);
  }
};

/// relu and abs have kinks, which central differences at large steps run across.
struct Kinks {
  static constexpr std::string_view name = "kinks";
  static constexpr Value forward(Value x) { return relu(linear(x, 64, "up")) * abs(linear(x, 64, "gate")); }
};

}  // namespace

}  // namespace mad::testing

namespace mad::ops {
template <>
struct Formula<&testing::plan_dependent_op> {
  template <class X>
  static X apply(double, X a) {
    return a;
  }
};
}  // namespace mad::ops

namespace mad::testing {

TEST_CASE("A result that depends on the plan is named with the pass") {
  const Report report = check_layer<PlanDependent, 16, PlannerProof::each_pass>();
  CHECK_THAT(report.text(), ContainsSubstring("with the planner's recomputation off: gradient of input[") &&
                                ContainsSubstring("with the planner's passes all off"));
  CHECK(report.failures.size() == 2);
}

TEST_CASE("Kinks are no failures, and the output may be wider than the input") {
  REQUIRE(check_layer<Kinks, 8>({.shapes = {{1, 1, 1}, {3, 7, 7}}}));
}

TEST_CASE("A report is read by any framework") {
  Report report{.subject = "layer, width 4"};
  CHECK_FALSE(report.ok());
  CHECK_THROWS_WITH(report.or_throw(), "layer, width 4: nothing was compared. Give at least one shape.");
  report.comparisons = 3;
  CHECK_NOTHROW(report.or_throw());
  CHECK(report.text() == "layer, width 4: holds, 3 numbers compared");
  report.failures = {"first", "second"};
  CHECK_FALSE(static_cast<bool>(report));
  CHECK_THROWS_WITH(report.or_throw(), "layer, width 4: 2 failures\n  first\n  second");
}

}  // namespace mad::testing
