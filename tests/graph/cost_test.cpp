// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/graph/cost.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/stack.hpp>
#include <mad/ops/time_step.hpp>

#include <catch.hpp>

namespace mad {

namespace {

template <class L, int Width>
constexpr Index parameters(Index max_length) {
  return parameter_count(Lowered<L, Width>::graph, max_length);
}
template <class L, int Width>
constexpr double flops(Index length) {
  return forward_flops_per_token(Lowered<L, Width>::graph, length);
}
template <class L, int Width>
constexpr Index state(Index length) {
  return state_size(Lowered<L, Width>::graph, length);
}

// The reference's counts at width 128 and maximum lengths 128 and 1280.
static_assert(parameters<Mlp, 128>(128) == 131072);
static_assert(parameters<SwiGLU, 128>(128) == 135168);
static_assert(parameters<Attn, 128>(128) == 66048);
static_assert(parameters<SlidingAttn, 128>(128) == 66048);
static_assert(parameters<SingleHeadAttn, 128>(128) == 66048);
static_assert(parameters<SingleHeadSlidingAttn, 128>(128) == 66048);
static_assert(parameters<Hyena, 128>(128) == 124348);
static_assert(parameters<Hyena, 128>(1280) == 127804);
static_assert(parameters<Mamba, 128>(128) == 107264);
static_assert(parameters<Mamba, 128>(1280) == 107264);

struct Map {
  static constexpr std::string_view name = "map";
  static constexpr Value forward(Value x) { return linear(x, 24, "w"); }
};
struct MapWithBias {
  static constexpr std::string_view name = "map with bias";
  static constexpr Value forward(Value x) { return linear(x, 24, "w", {.bias = true}); }
};
struct TimeSteps {
  static constexpr std::string_view name = "time steps";
  static constexpr Value forward(Value x) {
    return time_step(x, parameter(x, "w", {.dims = {24, 10}, .rank = 2}), parameter(x, "b", {.dims = {24}, .rank = 1}))
        .dt;
  }
};
/// 3 positions' worth of work is done once for all tokens of a sequence.
struct Shared {
  static constexpr std::string_view name = "shared";
  static constexpr Value forward(Value x) {
    const Value p = parameter(x, "p", {.dims = {Parameter::per_max_length, 5}, .rank = 2});
    const Value v = parameter(x, "v", {.dims = {4}, .rank = 1});
    const Value constant = parameter(x, "c", {.dims = {100}, .rank = 1, .is_constant = true});
    return x * linear(p, x.width(), "w") + sum_to(exp(v), Domain::one, 1) * slice(constant, 0, 1);
  }
};

// One multiply and one add are 2.
static_assert(flops<Map, 10>(7) == 2 * 10 * 24);
static_assert(flops<MapWithBias, 10>(7) == 2 * 10 * 24 + 24);
static_assert(parameters<MapWithBias, 10>(7) == 10 * 24 + 24);
// Softplus is counted as one, as everywhere.
static_assert(flops<TimeSteps, 10>(7) == 2 * 10 * 24 + 2 * 24);
// 8 each for x * map and the sum, the map's 2 * 5 * 8 per position; exp (4) and the product with the constant (1) once.
static_assert(flops<Shared, 8>(10) == 8 + 8 + 2 * 5 * 8 + (4 + 1) / 10.0);
static_assert(parameters<Shared, 8>(9) == 5 * 9 + 4 + 5 * 8);  // constants do not count

// Two maps, and per inner column: sigmoid, its product, the gate's product.
static_assert(flops<SwiGLU, 12>(5) == 3 * 2 * 12 * 32 + 3 * 32);
// Two maps, and the nine operations of the GELU's tanh form.
static_assert(flops<Mlp, 8>(5) == 2 * 2 * 8 * 32 + 9 * 32);
// An average query of 5 sees 3 keys; within a window of one key before its own it sees 1 once and else 2.
static_assert(flops<Attn, 16>(5) == 2 * 16 * 48 + 48 + 2 * 16 * 16 + 16 + (4 * 16 + 5 * 2) * 3);
static_assert(flops<Attention<AttentionOptions{.window = 1}>, 16>(5) ==
              2 * 16 * 48 + 48 + 2 * 16 * 16 + 16 + (4 * 16 + 5 * 2) * 9 / 5.0);

// Keys and values of what is visible.
static_assert(state<Attn, 16>(10) == 2 * 10 * 16);
static_assert(state<SlidingAttn, 16>(10) == 2 * 10 * 16);
static_assert(state<SlidingAttn, 16>(100) == 2 * 33 * 16);
static_assert(state<Attention<AttentionOptions{.heads = 4, .kv_heads = 1}>, 16>(10) == 2 * 10 * 4);
// Inputs of the short convolution (3 W projected columns) and of the long one (4 W).
static_assert(state<Hyena, 4>(10) == 2 * 12 + 10 * 16);
static_assert(state<Hyena, 4>(1) == 1 * 12 + 1 * 16);
// Four states for each of 2 W channels, and three inputs of the convolution; however long the sequence.
static_assert(state<Mamba, 4>(10) == 8 * 4 + 3 * 8);
static_assert(state<Mamba, 4>(1000) == 8 * 4 + 3 * 8);
static_assert(state<Mlp, 4>(1000) == 0);

using Two = Stack<Attn, Repeat<2, SwiGLU>>;
using Costs = Two::Cost<16, Norm::rms_norm>;
static_assert(Costs::parameters(8) == parameters<Attn, 16>(8) + 2 * parameters<SwiGLU, 16>(8) + 3 * 16);
// An RMSNorm is counted with 8 per channel, the residual with 1.
static_assert(Costs::flops_per_token(5) == flops<Attn, 16>(5) + 2 * flops<SwiGLU, 16>(5) + 3 * 9 * 16);
static_assert(Costs::state(10) == state<Attn, 16>(10));

}  // namespace

TEST_CASE("Costs are constant expressions, proved at compile time") { SUCCEED(); }

}  // namespace mad
