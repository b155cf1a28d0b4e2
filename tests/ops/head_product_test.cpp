// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/graph/cost.hpp>
#include <mad/graph/layer.hpp>
#include <mad/ops/head_product.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

namespace {

/// The same parameters and product in one node (if heads are narrow) and in three.
template <int Heads, int Out, bool InOne>
struct Product {
  static constexpr std::string_view name = "product-of-maps";
  static constexpr Value forward(Value x) {
    const int in = x.width() / Heads;
    const HeadMap first = head_map(x, in, Out, "first", {.bias = true});
    const HeadMap second = head_map(x, in, Out, "second", {.bias = true});
    if constexpr (InOne)
      return head_product(x, Heads, first, second);
    else
      return first(x, Heads) * second(x, Heads);
  }
};

/// Two products with the same maps, from and into slices.
struct Tied {
  static constexpr std::string_view name = "tied-products-of-maps";
  static constexpr Value forward(Value x) {
    const int half = x.width() / 2;
    const HeadMap first = head_map(x, 4, 4, "first", {.bias = true});
    const HeadMap second = head_map(x, 4, 4, "second", {.bias = true});
    const Value left = head_product(slice(x, 0, half), half / 4, first, second);
    const Value right = head_product(slice(x, half, half), half / 4, first, second);
    return concat(right, left * left);
  }
};

template <class L, int Width>
constexpr int count(const Operation& op) {
  int found = 0;
  for (int i = 0; i < Lowered<L, Width>::graph.forward_size; ++i)
    found += Lowered<L, Width>::graph.nodes[i].op == &op ? 1 : 0;
  return found;
}

template <int Width, int Heads, int Out>
constexpr double flops(bool in_one) {
  return in_one ? forward_flops_per_token(Lowered<Product<Heads, Out, true>, Width>::graph, 10)
                : forward_flops_per_token(Lowered<Product<Heads, Out, false>, Width>::graph, 10);
}

}  // namespace

TEST_CASE("Narrow heads are one node, wide heads two maps and a product, at the same cost") {
  STATIC_REQUIRE(count<Product<2, 32, true>, 64>(ops::head_product_op) == 1);
  STATIC_REQUIRE(count<Product<2, 32, true>, 64>(ops::linear_heads_op) == 0);
  STATIC_REQUIRE(count<Product<2, 33, true>, 64>(ops::head_product_op) == 0);
  STATIC_REQUIRE(count<Product<2, 33, true>, 64>(ops::linear_heads_op) == 2);
  STATIC_REQUIRE(count<Product<1, 8, true>, 64>(ops::linear_heads_op) == 2);
  STATIC_REQUIRE(flops<64, 2, 32>(true) == flops<64, 2, 32>(false));
  STATIC_REQUIRE(flops<64, 8, 5>(true) == flops<64, 8, 5>(false));
}

TEST_CASE("A product of maps obeys the laws of layers") {
  CHECK(check_layer<Product<4, 4, true>>());
  CHECK(check_layer<Tied>());
}

}  // namespace mad::testing
