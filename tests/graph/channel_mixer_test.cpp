// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "mixer_layers.hpp"
#include "plan_checker.hpp"

#include <mad/layers/mlp.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/rwkv7.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/block.hpp>

#include <catch.hpp>
#include <memory>
#include <vector>

namespace mad::testing {

namespace {

/// As devices ask for it (cuda/layer.cuh).
constexpr unsigned on_device = all_passes | channel_mixers | save_kernels | room_aside;

/// A layer's graph and plan, which is proved to be whole: all values computed once, and found where they are read.
struct Planned {
  std::unique_ptr<Graph> graph;
  std::unique_ptr<Plan> plan;

  template <class L, int Width>
  static Planned make(unsigned passes = on_device) {
    INFO(L::name << ", width " << Width);
    Planned p;
    p.graph = std::make_unique<Graph>(build_graph<L, Width>(passes));
    REQUIRE(p.graph->fault == Fault::none);
    p.plan = std::make_unique<Plan>(make_plan(*p.graph, passes));
    REQUIRE(PlanChecker::check(*p.graph, *p.plan, (passes & room_aside) != 0) == "");
    return p;
  }

  std::vector<int> mixers(Phase phase) const {
    std::vector<int> steps;
    const int* begin = plan->schedule.phase_begin + static_cast<int>(phase);
    for (int step = begin[0]; step < begin[1]; ++step)
      if (plan->schedule.steps[step].mixer) steps.push_back(step);
    return steps;
  }
  /// The only one of a phase.
  MixerTables mixer(Phase phase) const {
    REQUIRE(mixers(phase).size() == 1);
    return {*graph, *plan, mixers(phase)[0]};
  }
  int columns(Space space) const { return plan->arenas.columns_of(space, Domain::tokens); }
  const Node& node(int i) const { return graph->nodes[i]; }
  /// Name of the parameter that a node is.
  std::string parameter(int i) const { return std::string(graph->parameters[node(i).attribute[0]].name.view()); }
  std::vector<std::string> weights(const MixerTable& t) const {
    std::vector<std::string> names;
    for (int w = 0; w < t.weight_count; ++w) names.push_back(parameter(t.weights[w]));
    return names;
  }
};

/// Mixers of the forward and of the backward pass; there are never any in the others.
struct Count {
  int forward, backward;
  bool operator==(const Count&) const = default;
};
template <class L, int Width>
Count count(unsigned passes = on_device) {
  const Planned p = Planned::make<L, Width>(passes);
  REQUIRE(p.mixers(Phase::prologue).empty());
  REQUIRE(p.mixers(Phase::epilogue).empty());
  return {static_cast<int>(p.mixers(Phase::forward).size()), static_cast<int>(p.mixers(Phase::backward).size())};
}
constexpr Count both{1, 1}, forward_only{1, 0}, none{0, 0};

struct SwiGluWithBias : SwiGluLayer<SwiGluOptions{.bias = true}> {};
struct MlpWithBias : MlpLayer<MlpOptions{.bias = true}> {};

}  // namespace

TEST_CASE("SwiGLU and Mlp are one mixer forward and one backward") {
  CHECK(count<SwiGLU, 16>() == both);
  CHECK(count<SwiGLU, 64>() == both);
  CHECK(count<SwiGLU, 128>() == both);
  CHECK(count<Mlp, 16>() == both);
  CHECK(count<Mlp, 64>() == both);
  CHECK(count<Mlp, 128>() == both);
  CHECK(count<Residual<Norm::layer_norm, SwiGLU>, 64>() == both);
  CHECK(count<Residual<Norm::rms_norm, Mlp>, 64>() == both);
  CHECK(count<SwiGLU, 64>(all_passes | channel_mixers) == both);
  CHECK(count<SwiGLU, 64>(all_passes) == none);
}

TEST_CASE("RWKV's channel mixers and low-rank maps are mixers") {
  CHECK(count<RWKV6ChannelMixer, 16>() == both);
  CHECK(count<RWKV7ChannelMixer, 16>() == both);
  CHECK(count<Residual<Norm::layer_norm, RWKV6ChannelMixer>, 32>() == both);
  CHECK(count<Residual<Norm::layer_norm, RWKV7ChannelMixer>, 32>() == both);
  CHECK(count<LowRank, 32>() == both);
  CHECK(count<Residual<Norm::layer_norm, LowRank>, 32>() == both);
}

TEST_CASE("Products with a bias, wider ones and those of other widths are no mixers") {
  CHECK(count<SwiGluWithBias, 16>() == none);
  CHECK(count<MlpWithBias, 16>() == none);
  CHECK(count<WithBias, 32>() == none);
  CHECK(count<WithBiasOutside, 32>() == none);
  CHECK(count<SwiGLU, 144>() == none);
  CHECK(count<SwiGLU, 24>() == none);
  CHECK(count<OddInside, 32>() == none);
}

TEST_CASE("What others read, or read in another form, is no inside") {
  CHECK(count<ReadInside, 32>() == none);
  CHECK(count<ProductReadOutside, 32>() == none);
  CHECK(count<SliceOfTheInside, 32>() == none);
  CHECK(count<SliceOfAProduct, 32>() == none);
  CHECK(count<SharedRow, 32>() == none);
  CHECK(count<SharedPositions, 32>() == none);
  CHECK(count<OneColumn, 32>() == none);
  CHECK(count<Repeated, 32>() == none);
  CHECK(count<OutputInside, 32>() == none);
  CHECK(count<ComputedWeight, 32>() == none);
}

TEST_CASE("A mixer has as many inputs and products as a kernel takes, and one result") {
  CHECK(count<ThreeWaysIn, 32>() == both);
  CHECK(count<TwoInputs, 32>() == none);                 // the gradient would be a third
  CHECK(count<TwoWaysOut, 32>() == forward_only);        // the gradients that enter it are summed before
  CHECK(count<FourWaysInOfThreeWeights, 32>() == none);  // the gradient comes in by a fifth
  CHECK(count<FourWaysIn, 32>() == none);
  CHECK(count<FiveWaysInOfThreeWeights, 32>() == none);
  CHECK(count<ThreeInputs, 32>() == none);
}

TEST_CASE("Of a product that leads out of one run and into the next, the first run has it") {
  const Planned p = Planned::make<Chain, 32>();
  const MixerTables forward = p.mixer(Phase::forward);
  CHECK(p.weights(forward.mixer) == std::vector<std::string>{"in.weight", "middle.weight"});
  const MixerTables backward = p.mixer(Phase::backward);
  CHECK(backward.mixer.out_count == 1);
}

TEST_CASE("Inputs and addends that devices store in another type stay outside of mixers") {
  CHECK(count<FurtherOutput, 32>() == forward_only);
  CHECK(count<ExactInput, 32>() == none);
  CHECK(count<ExactAddend, 32>() == Count{0, 1});  // backward nothing is added
}

TEST_CASE("A mixer that is written in place or reads a slice is one") {
  const Planned p = Planned::make<PartOfAConcat, 32>();
  const MixerTable& t = p.mixer(Phase::forward).mixer;
  CHECK(p.node(t.inputs[0]).op == &ops::slice_op);
  CHECK(p.plan->location[t.result()].space == Space::output);
  CHECK(p.plan->location[t.result()].stride == 32);
  CHECK(p.mixers(Phase::backward).size() == 1);
}

TEST_CASE("Nothing inside is saved") {
  using L = Residual<Norm::layer_norm, SwiGLU>;
  constexpr unsigned device = all_passes | save_kernels | room_aside;
  CHECK(Planned::make<L, 128>(device).columns(Space::saved) == 832);
  CHECK(Planned::make<L, 128>(device | channel_mixers).columns(Space::saved) == 128);
  CHECK(Planned::make<L, 128>(all_passes).columns(Space::saved) == 704);
  CHECK(Planned::make<L, 128>(all_passes | channel_mixers).columns(Space::saved) == 0);
  CHECK(Planned::make<Mlp, 128>(device).columns(Space::saved) == 512);
  CHECK(Planned::make<Mlp, 128>(device | channel_mixers).columns(Space::saved) == 0);
}

TEST_CASE("The forward table of SwiGLU lists its products in the run's order, and the residual") {
  const Planned p = Planned::make<Residual<Norm::layer_norm, SwiGLU>, 64>();
  const MixerTables tables = p.mixer(Phase::forward);
  const MixerTable& t = tables.mixer;
  CHECK(p.weights(t) == std::vector<std::string>{"1.w1.weight", "1.w2.weight", "1.w3.weight"});
  CHECK(t.inside == 176);
  CHECK(t.input_count == 1);
  CHECK(p.node(t.inputs[0]).op == &ops::norm_op);
  REQUIRE(t.in_count == 2);
  for (int k = 0; k < 2; ++k) {
    CHECK(t.in[k].node == tables.run.loads[k].node);
    CHECK(t.in[k].from == 0);
    CHECK(t.in[k].weight == k);
    CHECK(t.inside_rows[k]);
  }
  REQUIRE(t.out_count == 1);
  CHECK(t.out[0].from == tables.run.count - 1);
  CHECK(t.out[0].weight == 2);
  CHECK_FALSE(t.inside_rows[2]);
  CHECK(t.result() == p.graph->output);
  CHECK(p.node(t.addend).op == &ops::input_op);
}

TEST_CASE("The backward table of SwiGLU lists two inputs, and products out of both gradients") {
  const Planned p = Planned::make<SwiGLU, 64>();
  const MixerTables tables = p.mixer(Phase::backward);
  const MixerTable& t = tables.mixer;
  CHECK(t.input_count == 2);
  CHECK(t.weight_count == 3);
  REQUIRE(t.in_count == 3);
  int gradients = 0;
  for (int k = 0; k < 3; ++k) {
    const bool gradient = p.node(t.in[k].node).op->product == Product::backward;
    gradients += gradient ? 1 : 0;
    CHECK(t.inputs[t.in[k].from] == (gradient ? p.graph->output_gradient : 0));
    CHECK(p.parameter(t.weights[t.in[k].weight]) == (gradient ? "w3.weight" : k == 0 ? "w1.weight" : "w2.weight"));
  }
  CHECK(gradients == 1);
  REQUIRE(t.out_count == 2);
  CHECK(t.out[0].weight != t.out[1].weight);
  CHECK(t.out[0].from != t.out[1].from);
  CHECK(t.addend == -1);
  CHECK(t.result() == p.graph->input_gradient);
  int stored = 0;
  for (int m = 0; m < tables.run.count; ++m)
    stored += p.plan->location[tables.run.members[m]].space != Space::registers ? 1 : 0;
  CHECK(stored == 3);  // both gradients, and what w3 multiplies
}

TEST_CASE("A norm in front of a mixer is of its step, where devices ask for it") {
  constexpr unsigned with_norms = on_device | mixer_norms;
  const auto norms = []<class L, int Width>(unsigned passes) {
    const Planned p = Planned::make<L, Width>(passes);
    Count found{};
    for (const int step : p.mixers(Phase::forward))
      if (MixerTables(*p.graph, *p.plan, step).mixer.norm >= 0) ++found.forward;
    for (const int step : p.mixers(Phase::backward))
      if (MixerTables(*p.graph, *p.plan, step).mixer.norm >= 0) ++found.backward;
    return found;
  };
  CHECK(norms.operator()<Residual<Norm::layer_norm, SwiGLU>, 128>(with_norms) == forward_only);
  CHECK(norms.operator()<Residual<Norm::rms_norm, SwiGLU>, 48>(with_norms) == forward_only);
  CHECK(norms.operator()<Residual<Norm::layer_norm, Mlp>, 64>(with_norms) == forward_only);
  CHECK(norms.operator()<Residual<Norm::rms_norm, ThreeWaysIn>, 32>(with_norms) == forward_only);
  CHECK(norms.operator()<NoResidual, 32>(with_norms) == forward_only);
  CHECK(norms.operator()<Residual<Norm::layer_norm, SwiGLU>, 64>(all_passes | channel_mixers | mixer_norms) ==
        forward_only);
  CHECK(norms.operator()<Residual<Norm::layer_norm, SwiGLU>, 128>(on_device) == none);
  CHECK(norms.operator()<Residual<Norm::layer_norm, SwiGLU>, 144>(with_norms) == none);
  CHECK(norms.operator()<Residual<Norm::layer_norm, RWKV6ChannelMixer>, 32>(with_norms) == none);  // a shift between
  CHECK(norms.operator()<Residual<Norm::layer_norm, LowRank>, 32>(with_norms) == none);            // an addend, too
  CHECK(norms.operator()<NormReadOutside, 32>(with_norms) == none);
  CHECK(norms.operator()<NormOfHeads, 32>(with_norms) == none);
  CHECK(norms.operator()<NormOfTwo, 32>(with_norms) == none);
}

TEST_CASE("A mixer with a norm in front reads x, and writes what the norm computes if that is saved") {
  const Planned p = Planned::make<Residual<Norm::layer_norm, SwiGLU>, 64>(on_device | mixer_norms);
  CHECK(p.columns(Space::saved) == 64);
  const MixerTable t = p.mixer(Phase::forward).mixer;
  CHECK(t.inputs[0] == 0);
  CHECK(t.addend == 0);
  CHECK(p.plan->location[t.norm].space == Space::saved);
  CHECK(t.result() == p.graph->output);
  const int* begin = p.plan->schedule.phase_begin + static_cast<int>(Phase::forward);
  CHECK(begin[1] - begin[0] == 1);
  // Where it is computed again in the backward pass it has no memory.
  constexpr unsigned recomputing = all_passes | channel_mixers | mixer_norms;
  const Planned again = Planned::make<Residual<Norm::layer_norm, SwiGLU>, 64>(recomputing);
  CHECK(again.plan->location[again.mixer(Phase::forward).mixer.norm].space == Space::registers);
}

TEST_CASE("The checker sees a norm that lost its place, or lies on what a mixer reads or writes") {
  const Planned p = Planned::make<Residual<Norm::layer_norm, SwiGLU>, 16>(on_device | mixer_norms);
  const MixerTable t = p.mixer(Phase::forward).mixer;
  Location* at = p.plan->location;
  const auto spoiled = [&](int i, Location other) {
    const Location kept = std::exchange(at[i], other);
    const bool seen = !PlanChecker::check(*p.graph, *p.plan, true).empty();
    at[i] = kept;
    return seen;
  };
  CHECK(spoiled(t.norm, Location{}));
  CHECK(spoiled(t.norm, at[t.inputs[0]]));
  CHECK(spoiled(t.norm, at[t.result()]));
  CHECK(PlanChecker::check(*p.graph, *p.plan, true).empty());
}

TEST_CASE("A weight that is read both ways is listed twice") {
  CHECK(count<TiedWeights, 32>() == both);
  const MixerTable tied = Planned::make<TiedWeights, 32>().mixer(Phase::forward).mixer;
  CHECK(tied.weight_count == 1);
  CHECK(count<SquareWeight, 32>() == both);
  const MixerTable square = Planned::make<SquareWeight, 32>().mixer(Phase::forward).mixer;
  REQUIRE(square.weight_count == 2);
  CHECK(square.weights[0] == square.weights[1]);
  CHECK(square.inside_rows[0]);
  CHECK_FALSE(square.inside_rows[1]);
  CHECK(square.in[0].weight == 0);
  CHECK(square.out[0].weight == 1);
}

TEST_CASE("A mixer's result overwrites the addend that dies with it, and nothing else does") {
  const Planned p = Planned::make<GatesItsInput, 32>(all_passes | channel_mixers);
  const MixerTables tables = p.mixer(Phase::backward);
  const MixerTable& t = tables.mixer;
  REQUIRE(t.addend >= 0);
  Location* at = p.plan->location;
  CHECK(at[t.result()].space == Space::scratch);
  CHECK(at[t.result()].base == at[t.addend].base);
  const auto spoiled = [&](int i, int onto) {
    const Location kept = at[i];
    at[i].space = at[onto].space;
    at[i].base = at[onto].base;
    const bool seen = !PlanChecker::check(*p.graph, *p.plan).empty();
    at[i] = kept;
    return seen;
  };
  for (int i = 0; i < t.input_count; ++i) CHECK(spoiled(t.result(), t.inputs[i]));
  int stored = 0;
  for (int m = 0; m < tables.run.count; ++m) {
    const int member = tables.run.members[m];
    if (at[member].space == Space::registers) continue;
    ++stored;
    CHECK(spoiled(member, t.addend));
    CHECK(spoiled(member, t.result()));
    for (int i = 0; i < t.input_count; ++i) CHECK(spoiled(member, t.inputs[i]));
    const Location kept = std::exchange(at[member], Location{});
    CHECK_FALSE(PlanChecker::check(*p.graph, *p.plan).empty());
    at[member] = kept;
  }
  CHECK(stored == 2);
  CHECK(PlanChecker::check(*p.graph, *p.plan).empty());
}

TEST_CASE("The checker sees a mixer that lost a node, or is said to be none") {
  const Planned p = Planned::make<SwiGLU, 16>();
  Step& step = p.plan->schedule.steps[p.mixers(Phase::backward)[0]];
  --step.count;
  CHECK_FALSE(PlanChecker::check(*p.graph, *p.plan).empty());
  ++step.first;
  CHECK_FALSE(PlanChecker::check(*p.graph, *p.plan).empty());
  --step.first;
  ++step.count;
  step.mixer = false;
  CHECK_FALSE(PlanChecker::check(*p.graph, *p.plan).empty());
  step.mixer = true;
  CHECK(PlanChecker::check(*p.graph, *p.plan).empty());
}

}  // namespace mad::testing
