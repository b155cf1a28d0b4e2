// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "stepping.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/ops/head_product.hpp>

namespace mad {

namespace {

/// A position table added to the tokens, and a value per token that is scaled by one per position.
struct Positioned {
  static constexpr std::string_view name = "positioned";
  static constexpr Value forward(Value x) {
    constexpr int per_max = Parameter::per_max_length;
    const Value table = parameter(x, "table", {.dims = {per_max, 12}, .rank = 2, .initial = Initial::normal(1)});
    const Value ramp = parameter(x, "ramp", {.dims = {per_max, 1}, .rank = 2, .initial = Initial::normal(1)});
    const Value wave = sin(table * 3.0);  // computed once for all positions
    return linear(x + wave, x.width(), "map") * ramp + x;
  }
};

struct ProductOfMaps {
  static constexpr std::string_view name = "product-of-maps";
  static constexpr Value forward(Value x) {
    const HeadMap first = head_map(x, 4, 4, "first", {.bias = true});
    return head_product(x, x.width() / 4, first, head_map(x, 4, 4, "second", {.bias = true}));
  }
};

}  // namespace

TEST_CASE("attention by steps equals attention of whole sequences") {
  using testing::check_steps;
  check_steps<Attn, 16>();
  check_steps<SlidingAttn, 16>();
  check_steps<Attention<AttentionOptions{.heads = 6, .kv_heads = 2, .rotary = 2, .window = 4, .interleaved = true}>,
              18>();
}

TEST_CASE("Hyena by steps equals Hyena of whole sequences") {
  testing::check_steps<Hyena, 4>();
  testing::check_steps<
      HyenaLayer<HyenaOptions{.inner_factor = 1, .projection_groups = 3, .short_filter = 1, .heads = 2}>, 6>();
}

TEST_CASE("Mamba by steps equals Mamba of whole sequences") { testing::check_steps<Mamba, 20>(); }

TEST_CASE("layers without memory keep nothing") {
  testing::check_steps<SwiGLU, 12>();
  testing::check_steps<ProductOfMaps, 12>();
  CHECK(cpu::step_block<Lowered<SwiGLU, 12>, double>.state_size({3, 1, 100}) == 0);
}

TEST_CASE("values per position are read at the position of the step") {
  testing::check_steps<Positioned, 12>();
  CHECK(cpu::step_block<Lowered<Positioned, 12>, double>.has_positions);
  CHECK_FALSE(cpu::step_block<Lowered<SwiGLU, 12>, double>.has_positions);
}

}  // namespace mad
