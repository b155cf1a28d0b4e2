// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/attention.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Attn is proved") { REQUIRE(check_layer<Attn, 16, PlannerProof::each_pass>()); }

TEST_CASE("SingleHeadAttn is proved") { REQUIRE(check_layer<SingleHeadAttn>()); }

TEST_CASE("Sliding attention is proved where the window is shorter than the sequence") {
  const CheckOptions options{.shapes = {{1, 1, 1}, {3, 7, 7}, {2, 39, 45}}};
  REQUIRE(check_layer<SlidingAttn>(options));
  REQUIRE(check_layer<SingleHeadSlidingAttn, 8, PlannerProof::none>(options));
}

TEST_CASE("Attention is proved with other heads, windows and rotations") {
  using O = AttentionOptions;
  constexpr PlannerProof one_plan = PlannerProof::none;
  REQUIRE(
      check_layer<Attention<O{.heads = 4, .kv_heads = 2, .rotary = 2, .window = 3, .bias = false}>, 16, one_plan>());
  REQUIRE(check_layer<Attention<O{.heads = 3, .interleaved = true, .scale = 0.7}>, 15, one_plan>());
  REQUIRE(check_layer<Attention<O{.heads = 2, .kv_heads = 1, .rotary = 0, .window = 0}>, 6, one_plan>());
  REQUIRE(check_layer<Attention<O{.heads = 1, .rotary = 4, .rotary_base = 100}>, 5, one_plan>());
}

}  // namespace mad::testing
