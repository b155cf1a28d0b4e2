// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "little_layers.hpp"
#include "plan_checker.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/models/block.hpp>

#include <catch.hpp>
#include <string_view>

namespace mad::testing {

namespace {

/// Three values of the input's width, and a filter for them.
struct Parts {
  Value a, b, c, h, skip;

  constexpr explicit Parts(Value x)
      : a(linear(x, x.width(), "a")),
        b(linear(x, x.width(), "b")),
        c(linear(x, x.width(), "c")),
        h(table(x, "h", x.width())),
        skip(vector(x, "skip", x.width())) {}
};

constexpr Value gated(Value x) {
  const Parts p(x);
  return linear(p.c * long_conv(p.a * p.b, p.h, p.skip), x.width(), "d");
}
constexpr Value gated_from_behind(Value x) {
  const Parts p(x);
  return linear(long_conv(p.a * p.b, p.h, p.skip) * p.c, x.width(), "d") + x;
}
constexpr Value gated_by_its_input(Value x) {
  const Parts p(x);
  return linear(p.a * long_conv(p.a * p.a, p.h, p.skip), x.width(), "d");
}
constexpr Value output_is_gated(Value x) {
  const Parts p(x);
  return p.c * long_conv(p.a * p.b, p.h, p.skip);
}
constexpr Value gated_twice(Value x) {
  const Parts p(x);
  const Value y = p.c * long_conv(p.a * p.b, p.h, p.skip);
  return x + y * long_conv(y * p.a, p.h, p.skip);
}

constexpr Value no_product_before(Value x) {
  const Parts p(x);
  return p.c * long_conv(p.a, p.h, p.skip);
}
constexpr Value no_product_behind(Value x) {
  const Parts p(x);
  return p.c + long_conv(p.a * p.b, p.h, p.skip);
}
constexpr Value product_before_read_twice(Value x) {
  const Parts p(x);
  const Value u = p.a * p.b;
  return u * long_conv(u, p.h, p.skip);
}
constexpr Value result_read_twice(Value x) {
  const Parts p(x);
  const Value y = long_conv(p.a * p.b, p.h, p.skip);
  return p.c * y + y;
}
constexpr Value square_of_the_result(Value x) {
  const Parts p(x);
  const Value y = long_conv(p.a * p.b, p.h, p.skip);
  return y * y;
}
constexpr Value gate_for_all_rows(Value x) {
  const Parts p(x);
  return vector(x, "gate", x.width()) * long_conv(p.a * p.b, p.h, p.skip);
}
constexpr Value gate_of_one_column(Value x) {
  const Parts p(x);
  return p.c * long_conv(slice(p.a, 0, 1) * p.b, p.h, p.skip);
}
constexpr Value gate_comes_later(Value x) {
  const Parts p(x);
  const Value y = long_conv(p.a * p.b, p.h, p.skip);
  return sin(p.c) * y;
}

template <auto Forward>
struct Of {
  static constexpr std::string_view name = "little layer";
  static constexpr Value forward(Value x) { return Forward(x); }
};

/// Live nodes of an operation in a layer's graph with gates inside.
template <class L>
int count_of(const Operation& op) {
  using Low = Lowered<L, 8, all_passes | gates_inside>;
  int count = 0;
  for (int i = 0; i < Low::graph.size; ++i) count += Low::plan.schedule.live[i] && Low::graph.nodes[i].op == &op;
  return count;
}

template <class L>
void check_plan() {
  constexpr unsigned passes = all_passes | gates_inside;
  CHECK(PlanChecker::check(Lowered<L, 8, passes>::graph, Lowered<L, 8, passes>::plan).empty());
  constexpr unsigned more = passes | room_aside;
  CHECK(PlanChecker::check(Lowered<L, 8, more>::graph, Lowered<L, 8, more>::plan, true).empty());
}

}  // namespace

TEST_CASE("Products before and after an operation with a gated form become part of it") {
  for (const int count :
       {count_of<Of<gated>>(ops::gated_long_conv_op), count_of<Of<gated_from_behind>>(ops::gated_long_conv_op),
        count_of<Of<gated_by_its_input>>(ops::gated_long_conv_op),
        count_of<Of<output_is_gated>>(ops::gated_long_conv_op)})
    CHECK(count == 1);
  CHECK(count_of<Of<gated>>(ops::long_conv_op) == 0);
  CHECK(count_of<Of<gated>>(ops::long_conv_gradient_op) == 0);
  CHECK(count_of<Of<gated>>(ops::gated_long_conv_gradient_op) == 1);
  CHECK(count_of<Of<gated>>(ops::long_conv_filter_gradient_op) == 1);
  CHECK(count_of<Of<gated>>(ops::multiply_op) == 3);  // the gradients of gate and result, and the input once more
  CHECK(count_of<Residual<Norm::layer_norm, Hyena>>(ops::gated_long_conv_op) == 1);
}

TEST_CASE("The second of two convolutions is gated by what the first gives") {
  CHECK(count_of<Of<gated_twice>>(ops::gated_long_conv_op) == 2);
}

TEST_CASE("An operation keeps its form where a product is missing, smaller, or read by others") {
  for (const int count :
       {count_of<Of<no_product_before>>(ops::long_conv_op), count_of<Of<no_product_behind>>(ops::long_conv_op),
        count_of<Of<product_before_read_twice>>(ops::long_conv_op), count_of<Of<result_read_twice>>(ops::long_conv_op),
        count_of<Of<square_of_the_result>>(ops::long_conv_op), count_of<Of<gate_for_all_rows>>(ops::long_conv_op),
        count_of<Of<gate_of_one_column>>(ops::long_conv_op), count_of<Of<gate_comes_later>>(ops::long_conv_op)})
    CHECK(count == 1);
}

TEST_CASE("Gates stay outside for a device that does not ask for them") {
  using Low = Lowered<Of<gated>, 8>;
  for (int i = 0; i < Low::graph.size; ++i) CHECK(Low::graph.nodes[i].op != &ops::gated_long_conv_op);
}

TEST_CASE("A layer is the same layer, and counts the same, with its gates inside") {
  CHECK(Lowered<Hyena, 8>::fingerprint == Lowered<Hyena, 8, all_passes | gates_inside>::fingerprint);
  CHECK(forward_flops_per_token(Lowered<Of<gated>, 8>::graph, 5) ==
        forward_flops_per_token(Lowered<Of<gated>, 8, all_passes | gates_inside>::graph, 5));
}

TEST_CASE("Every value of the layers with gates is found where it is read") {
  check_plan<Of<gated>>();
  check_plan<Of<gated_from_behind>>();
  check_plan<Of<gated_by_its_input>>();
  check_plan<Of<output_is_gated>>();
  check_plan<Of<gated_twice>>();
  check_plan<Of<product_before_read_twice>>();
}

}  // namespace mad::testing
