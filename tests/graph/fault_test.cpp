// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/graph/layer.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>
#include <mad/ops/selective_scan.hpp>
#include <mad/ops/short_conv.hpp>
#include <mad/ops/time_step.hpp>

#include <catch.hpp>
#include <memory>

namespace mad {

namespace {

/// What a forward pass on 16 columns records.
struct Found {
  Fault fault;
  int a;
  int b;
  int line;
};

template <class F>
struct Wrap {
  static constexpr std::string_view name = "wrap";
  static constexpr Value forward(Value x) { return F{}(x); }
};

template <class F>
Found record(F) {
  const auto g = std::make_unique<Graph>(build_graph<Wrap<F>, 16>(all_passes));
  return {g->fault, g->fault_a, g->fault_b, g->fault_line};
}

/// The line is checked where the message has one; 0: it has none.
void expect(const Found& found, Fault fault, int a, int b, int line = 0) {
  CHECK(static_cast<int>(found.fault) == static_cast<int>(fault));
  CHECK(found.a == a);
  CHECK(found.b == b);
  CHECK(found.line == line);
}

constexpr Value table(Value x) {
  return parameter(x, "table", {.dims = {Parameter::per_max_length, x.width()}, .rank = 2});
}

}  // namespace

TEST_CASE("Widths that do not fit are recorded with both numbers") {
  expect(record([](Value x) { return x + slice(x, 0, 8); }), Fault::widths_differ, 16, 8);
  expect(record([](Value x) { return slice(x, 0, 8) * x; }), Fault::widths_differ, 8, 16);
  expect(record([](Value x) {
           const Value weight = parameter(x, "w", {.dims = {4, 16}, .rank = 2});
           const Value bias = parameter(x, "b", {.dims = {5}, .rank = 1});
           return linear(x, weight, bias);
         }),
         Fault::widths_differ, 5, 4, __LINE__ - 2);
  expect(record([](Value x) {
           const Value weight = parameter(x, "w", {.dims = {8, 16}, .rank = 2});
           const Value bias = parameter(x, "b", {.dims = {8}, .rank = 1});
           return selective_scan(x, time_step(x, weight, bias), x, x, x, x);
         }),
         Fault::widths_differ, 8, 16, __LINE__ - 2);
  expect(record([](Value x) {
           const Value weight = parameter(x, "w", {.dims = {8, 16}, .rank = 2});
           return time_step(x, weight, x).dt;
         }),
         Fault::widths_differ, 16, 8, __LINE__ - 2);
}

TEST_CASE("A slice outside is recorded with its end, the width and the line") {
  expect(record([](Value x) { return slice(x, 8, 9); }), Fault::slice_outside, 17, 16, __LINE__);
  expect(record([](Value x) { return slice(x, -1, 4); }), Fault::slice_outside, 3, 16, __LINE__);
  expect(record([](Value x) { return slice(x, 3, 0); }), Fault::slice_outside, 3, 16, __LINE__);
}

TEST_CASE("What must divide is recorded with both numbers") {
  expect(record([](Value x) { return tile(x, 24); }), Fault::not_divisible, 24, 16, __LINE__);
  expect(record([](Value x) { return spread(x, 40); }), Fault::not_divisible, 40, 16, __LINE__);
  expect(record([](Value x) { return sum_to(x, Domain::tokens, 3); }), Fault::not_divisible, 16, 3);
  expect(record([](Value x) { return attention(x, x, x, {.heads = 3}); }), Fault::not_divisible, 16, 3, __LINE__);
  expect(record([](Value x) { return attention(x, x, x, {.heads = 4, .kv_heads = 3}); }), Fault::not_divisible, 4, 3,
         __LINE__ - 1);
  expect(record([](Value x) { return attention(x, x, x, {.heads = 1, .rotary = 3}); }), Fault::not_divisible, 3, 2,
         __LINE__ - 1);
  expect(record([](Value x) { return group_norm(x, 5); }), Fault::not_divisible, 16, 5, __LINE__);
  expect(record([](Value x) { return short_conv(x, 24, 3, "c"); }), Fault::not_divisible, 24, 16, __LINE__);
}

TEST_CASE("Rows of the wrong kind are recorded") {
  const int positions = static_cast<int>(Domain::positions);
  const int one = static_cast<int>(Domain::one);
  expect(record([](Value x) { return table(x); }), Fault::wrong_domain, positions, 0);
  expect(record([](Value x) { return concat(x, table(x)); }), Fault::wrong_domain, 0, positions);
  expect(record([](Value x) { return short_conv(table(x), 16, 3, "c"); }), Fault::wrong_domain, positions, 0, __LINE__);
  expect(record([](Value x) { return x + sum_to(slice(table(x), 0, 1), Domain::tokens, 1); }), Fault::wrong_domain,
         positions, 0);
  // Nothing that the batch shares may depend on its tokens: it is computed before they are seen.
  expect(record([](Value x) { return x * sum_to(x, Domain::one, 16); }), Fault::wrong_domain, one, 0);
  expect(record([](Value x) { return x * sum_to(x, Domain::positions, 16); }), Fault::wrong_domain, positions, 0);
}

TEST_CASE("Impossible options are recorded with value and limit") {
  expect(record([](Value x) { return attention(x, x, x, {.heads = 2, .kv_heads = 2, .window = -2}); }),
         Fault::bad_option, -2, -1, __LINE__ - 1);
  expect(record([](Value x) { return attention(x, x, x, {.rotary = 18}); }), Fault::bad_option, 18, 16, __LINE__);
  expect(record([](Value x) { return short_conv(x, 16, 0, "c"); }), Fault::bad_option, 0, 1, __LINE__);
}

TEST_CASE("Names and numbers of parameters are checked") {
  expect(record([](Value x) {
           const Value y = linear(x, 16, "w");
           return linear(y, 16, "w");
         }),
         Fault::name_repeated, 0, 1, __LINE__ - 2);
  expect(record([](Value x) {
           Scope a(x, "a_scope_of_thirty_characters_");
           Scope b(x, "a_scope_of_thirty_characters_");
           return linear(x, 16, "w");
         }),
         Fault::name_too_long, 64, 63, __LINE__ - 2);
  expect(record([](Value x) {
           constexpr char names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";
           for (int i = 0; i < 41; ++i) {
             const char text[] = {names[i], '\0'};
             x = x * parameter(x, text, {.dims = {16}, .rank = 1});
           }
           return x;
         }),
         Fault::too_many_parameters, 41, 40, __LINE__ - 4);
}

TEST_CASE("A graph that is full says so, forward or backward") {
  const auto chain = [](Value x) {
    for (int i = 0; i < 300; ++i) x = x + 1.0;
    return x;
  };
  expect(record(chain), Fault::too_many_nodes, Graph::capacity + 1, Graph::capacity);
  const auto forward_only = [](Value x) {
    for (int i = 0; i < 200; ++i) x = sin(x);
    return x;
  };
  expect(record(forward_only), Fault::too_many_nodes, Graph::capacity + 1, Graph::capacity);
}

namespace {
inline constexpr Operation one_way{.name = "one way", .kind = Kind::elementwise};
}

TEST_CASE("An operation without adjoint is a fault only in the path of gradients") {
  expect(record([](Value x) { return x + ops::make(*x.graph, one_way, x.domain(), x.width(), x); }), Fault::no_adjoint,
         1, 0);
  expect(record([](Value x) {
           const Value c = parameter(x, "c", {.dims = {16}, .rank = 1, .is_constant = true});
           return x * ops::make(*x.graph, one_way, c.domain(), c.width(), c);
         }),
         Fault::none, 0, 0);
}

TEST_CASE("The first fault is the one that is told") {
  expect(record([](Value x) { return tile(slice(x, 0, 99), 5); }), Fault::slice_outside, 99, 16, __LINE__);
}

}  // namespace mad
