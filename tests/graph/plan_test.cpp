// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "little_layers.hpp"
#include "plan_checker.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/linear_attention.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/rwkv7.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/block.hpp>

#include <catch.hpp>
#include <memory>
#include <string_view>
#include <utility>

namespace mad::testing {

namespace {

/// An elementwise value between kernels.
struct BetweenProducts {
  static constexpr std::string_view name = "between-products";
  static constexpr Value forward(Value x) { return linear(tanh(linear(x, 32, "in_proj")), x.width(), "out_proj"); }
};

/// With every subset of the planner's passes, and \p more.
template <class L, int Width>
void check_plans(unsigned more = 0) {
  INFO(L::name << ", width " << Width);
  for (unsigned subset = 0; subset <= (all_passes | room_aside); ++subset) {
    const unsigned passes = subset | more;
    INFO("passes " << passes);
    const auto graph = std::make_unique<Graph>(build_graph<L, Width>(passes));
    REQUIRE(graph->fault == Fault::none);
    const auto plan = std::make_unique<Plan>(make_plan(*graph, passes));
    REQUIRE(PlanChecker::check(*graph, *plan, (passes & room_aside) != 0).empty());
  }
}

template <int Width, class... L>
void check_plans(Layers<L...>) {
  (check_plans<L, Width>(), ...);
}

}  // namespace

TEST_CASE("Every value of the little layers is found where it is read") {
  check_plans<8>(LayersOnReuse{});
  check_plans<8>(LayersOnSlices{});
  check_plans<8>(LayersOnConcats{});
  check_plans<8>(LayersOnColumns{});
  check_plans<8>(LayersOnSharedValues{});
  check_plans<8>(LayersOnEnds{});
  check_plans<8>(LayersOnRuns{});
}

TEST_CASE("Every value of the layers is found where it is read") {
  check_plans<Attn, 16>();
  check_plans<SingleHeadSlidingAttn, 16>();
  check_plans<Attention<AttentionOptions{.heads = 4, .kv_heads = 2}>, 16>();
  check_plans<Hyena, 4>();
  check_plans<Hyena, 4>(save_kernels);
  check_plans<Hyena, 4>(save_kernels | save_operands | stored_factors);
  check_plans<HyenaLayer<HyenaOptions{.order = 3, .filter = {.normalized = true, .window_learning_rate = 1}}>, 4>();
  check_plans<Mamba, 4>();
  check_plans<Mlp, 4>();
  check_plans<SwiGLU, 6>();
}

TEST_CASE("Every value of the blocks is found where it is read") {
  check_plans<Residual<Norm::layer_norm, Attn>, 16>();
  check_plans<Residual<Norm::rms_norm, Hyena>, 4>();
  check_plans<Residual<Norm::layer_norm, Mamba>, 4>();
  check_plans<Residual<Norm::layer_norm, Mamba>, 4>(save_kernels);
  check_plans<Residual<Norm::layer_norm, Mamba>, 4>(save_kernels | save_operands);
  check_plans<Residual<Norm::rms_norm, SwiGLU>, 6>();
  check_plans<Residual<Norm::rms_norm, Mlp>, 4>();
  check_plans<Decoder<Norm::layer_norm>, 4>();
  check_plans<HeadNorm<Norm::rms_norm>, 4>();
}

TEST_CASE("Every value is found where it is read if channel mixers are one step") {
  for (const unsigned more : {channel_mixers, channel_mixers | save_kernels, channel_mixers | save_operands}) {
    check_plans<SwiGLU, 16>(more);
    check_plans<Mlp, 16>(more);
    check_plans<RWKV6ChannelMixer, 16>(more);
    check_plans<RWKV7ChannelMixer, 16>(more);
    check_plans<Mamba, 16>(more);
    check_plans<Hyena, 16>(more);
    check_plans<Residual<Norm::layer_norm, SwiGLU>, 16>(more);
    check_plans<Residual<Norm::rms_norm, Mlp>, 16>(more);
    check_plans<Residual<Norm::layer_norm, RWKV7ChannelMixer>, 16>(more);
    check_plans<Residual<Norm::layer_norm, Hyena>, 16>(more);
  }
}

TEST_CASE("Values that take a kernel of their own are computed again only where nothing else was asked for") {
  const auto times = [](unsigned passes, const Operation& op) {
    const auto graph = std::make_unique<Graph>(build_graph<Residual<Norm::layer_norm, Mamba>, 4>(passes));
    const auto plan = std::make_unique<Plan>(make_plan(*graph, passes));
    int count = 0;
    for (int i = 0; i < graph->size; ++i) count += plan->schedule.live[i] && graph->nodes[i].op == &op ? 1 : 0;
    return count;
  };
  for (const Operation* op : {&ops::norm_op, &ops::short_conv_op}) {
    CHECK(times(all_passes, *op) == 2);
    CHECK(times(all_passes | save_kernels, *op) == 1);
  }
}

TEST_CASE("Values that kernels read are computed again only where nothing else was asked for") {
  const auto times = [](unsigned more) {
    const auto graph = std::make_unique<Graph>(build_graph<BetweenProducts, 16>(all_passes | more));
    const auto plan = std::make_unique<Plan>(make_plan(*graph, all_passes | more));
    int count = 0;
    for (int i = 0; i < graph->size; ++i)
      count += plan->schedule.live[i] && graph->nodes[i].op == &ops::tanh_op ? 1 : 0;
    return count;
  };
  CHECK(times(0) == 2);
  CHECK(times(save_kernels) == 2);
  CHECK(times(save_operands) == 1);
}

TEST_CASE("A value inside a channel mixer is computed again although a product reads it") {
  constexpr unsigned passes = all_passes | save_operands | channel_mixers;
  const auto graph = std::make_unique<Graph>(build_graph<SwiGLU, 16>(passes));
  const auto plan = std::make_unique<Plan>(make_plan(*graph, passes));
  CHECK(plan->arenas.columns_of(Space::saved, Domain::tokens) == 0);
}

TEST_CASE("A part of a concatenation that its own run reads too is written in place") {
  const auto graph = std::make_unique<Graph>(build_graph<LinearAttn, 16>(all_passes));
  const auto plan = std::make_unique<Plan>(make_plan(*graph));
  int parts = 0;
  for (int i = 0; i < graph->size; ++i) {
    const Node& n = graph->nodes[i];
    if (!plan->schedule.live[i] || n.op != &ops::concat_op) continue;
    for (int k = 0; k < n.operands; ++k, ++parts) {
      CHECK(plan->location[n.operand[k]].base == plan->location[i].base);
      CHECK(plan->location[n.operand[k]].stride == plan->location[i].stride);
    }
  }
  CHECK(parts == 2);
}

TEST_CASE("The checker sees every plan that was spoiled by moving one value onto another") {
  const auto graph = std::make_unique<Graph>(build_graph<Residual<Norm::layer_norm, Mamba>, 4>(all_passes));
  const auto plan = std::make_unique<Plan>(make_plan(*graph));
  REQUIRE(PlanChecker::check(*graph, *plan).empty());
  int moved = 0;
  for (int i = 0; i < graph->size; ++i) {
    const Location kept = plan->location[i];
    if (!plan->schedule.live[i] || kept.space != Space::saved) continue;
    for (int j = 0; j < i; ++j) {
      const Location other = plan->location[j];
      if (!plan->schedule.live[j] || other.space != Space::saved || other.base == kept.base ||
          other.domain != kept.domain)
        continue;
      plan->location[i].base = other.base;
      INFO("node " << i << " on node " << j);
      CHECK_FALSE(PlanChecker::check(*graph, *plan).empty());
      ++moved;
      plan->location[i] = kept;
    }
  }
  CHECK(moved > 5);
}

TEST_CASE("The checker sees a plan that gives memory away which is still read aside") {
  const auto graph = std::make_unique<Graph>(build_graph<Residual<Norm::layer_norm, SwiGLU>, 6>(all_passes));
  const auto plan = std::make_unique<Plan>(make_plan(*graph));
  REQUIRE(PlanChecker::check(*graph, *plan).empty());
  CHECK_FALSE(PlanChecker::check(*graph, *plan, true).empty());
  const auto roomy = std::make_unique<Plan>(make_plan(*graph, all_passes | room_aside));
  CHECK(PlanChecker::check(*graph, *roomy, true).empty());
}

TEST_CASE("The checker sees steps that were exchanged, left out, and arenas that are too small") {
  const auto graph = std::make_unique<Graph>(build_graph<SwiGLU, 6>(all_passes));
  const auto plan = std::make_unique<Plan>(make_plan(*graph));
  REQUIRE(PlanChecker::check(*graph, *plan).empty());
  Schedule& s = plan->schedule;
  const int forward = s.phase_begin[1];
  std::swap(s.steps[forward], s.steps[s.phase_begin[2] - 1]);
  CHECK_FALSE(PlanChecker::check(*graph, *plan).empty());
  std::swap(s.steps[forward], s.steps[s.phase_begin[2] - 1]);
  REQUIRE(s.phase_begin[3] == s.phase_begin[4]);  // no epilogue
  --s.phase_begin[3];
  CHECK_FALSE(PlanChecker::check(*graph, *plan).empty());
  ++s.phase_begin[3];
  --plan->arenas.columns[static_cast<int>(Space::scratch)][static_cast<int>(Domain::tokens)];
  CHECK_FALSE(PlanChecker::check(*graph, *plan).empty());
}

TEST_CASE("Passes save what they promise") {
  using L = Residual<Norm::layer_norm, SwiGLU>;
  const auto columns = [](unsigned passes, Space space) {
    return make_plan(build_graph<L, 6>(passes), passes).arenas.columns_of(space, Domain::tokens);
  };
  const auto steps = [](unsigned passes) { return make_plan(build_graph<L, 6>(passes), passes).schedule.step_count; };
  CHECK(columns(all_passes, Space::saved) < columns(all_passes & ~recompute, Space::saved));
  CHECK(columns(all_passes, Space::scratch) < columns(all_passes & ~reuse, Space::scratch));
  CHECK(columns(all_passes, Space::scratch) <= columns(all_passes & ~in_place, Space::scratch));
  CHECK(steps(all_passes) < steps(all_passes & ~fusion));
}

}  // namespace mad::testing
