// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "mixer_layers.hpp"

#include <mad/layers/mlp.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/rwkv7.hpp>
#include <mad/layers/swiglu.hpp>

#include <catch.hpp>
#include <memory>

namespace mad::testing {

namespace {

/// Products of a layer's forward pass that lead into a channel mixer.
template <class L, int Width>
int leading() {
  const auto graph = std::make_unique<Graph>(build_graph<L, Width>(all_passes));
  REQUIRE(graph->fault == Fault::none);
  int count = 0;
  for (int i = 0; i < graph->forward_size; ++i) count += channel_mixer::leads_into(*graph, i) ? 1 : 0;
  return count;
}

/// Live products with a weight, by the half of the graph they are in.
template <class L, int Width>
int products(unsigned passes, bool backward) {
  const auto graph = std::make_unique<Graph>(build_graph<L, Width>(passes));
  const auto plan = std::make_unique<Plan>(make_plan(*graph, passes));
  int count = 0;
  for (int i = 0; i < graph->size; ++i)
    count +=
        plan->schedule.live[i] && graph->nodes[i].op->product != Product::none && (i >= graph->forward_size) == backward
            ? 1
            : 0;
  return count;
}

}  // namespace

TEST_CASE("Products into an inside that only a product out of it reads lead into a channel mixer") {
  CHECK(leading<OneWay, 32>() == 1);
  CHECK(leading<Mlp, 16>() == 1);
  CHECK(leading<SwiGLU, 16>() == 2);
  CHECK(leading<SwiGLU, 128>() == 2);
  CHECK(leading<RWKV6ChannelMixer, 16>() == 1);
  CHECK(leading<RWKV7ChannelMixer, 16>() == 1);
  CHECK(leading<LowRank, 32>() == 1);
  CHECK(leading<ThreeWaysIn, 32>() == 3);
  CHECK(leading<TwoWaysOut, 32>() == 1);
  CHECK(leading<TiedWeights, 32>() == 1);
  CHECK(leading<PartOfAConcat, 32>() == 1);
  CHECK(leading<Chain, 32>() == 2);
}

TEST_CASE("Products whose values others read, or read in another form, lead into none") {
  CHECK(leading<ReadInside, 32>() == 0);
  CHECK(leading<ProductReadOutside, 32>() == 0);
  CHECK(leading<SliceOfTheInside, 32>() == 0);
  CHECK(leading<SliceOfAProduct, 32>() == 0);
  CHECK(leading<SharedRow, 32>() == 0);
  CHECK(leading<SharedPositions, 32>() == 0);
  CHECK(leading<OneColumn, 32>() == 0);
  CHECK(leading<Repeated, 32>() == 0);
  CHECK(leading<OutputInside, 32>() == 0);
}

TEST_CASE("Products of other kinds or widths lead into none") {
  CHECK(leading<ComputedWeight, 32>() == 0);
  CHECK(leading<WithBias, 32>() == 0);
  CHECK(leading<WithBiasOutside, 32>() == 0);
  CHECK(leading<OddInside, 32>() == 0);
  CHECK(leading<OneWay, 24>() == 0);
  CHECK(leading<OneWay, 144>() == 0);
}

TEST_CASE("More products, weights or inputs than a kernel takes, in the backward pass too, lead into none") {
  CHECK(leading<TwoInputs, 32>() == 0);
  CHECK(leading<FourWaysIn, 32>() == 0);
  CHECK(leading<FourWaysInOfThreeWeights, 32>() == 0);
  CHECK(leading<FiveWaysInOfThreeWeights, 32>() == 0);
  CHECK(leading<ThreeInputs, 32>() == 0);
}

TEST_CASE("Products that lead into a mixer are computed again if that is asked for, others are not") {
  CHECK(products<SwiGLU, 16>(all_passes, false) == 3);
  CHECK(products<SwiGLU, 16>(all_passes | channel_mixers, false) == 3);
  CHECK(products<SwiGLU, 16>(all_passes, true) == 3);
  CHECK(products<SwiGLU, 16>(all_passes | channel_mixers, true) == 5);
  CHECK(products<FourWaysIn, 32>(all_passes | channel_mixers, true) == products<FourWaysIn, 32>(all_passes, true));
  // The product out is read by nobody backward, that of x with "value" is no way in.
  CHECK(products<LowRank, 32>(all_passes | channel_mixers, true) == products<LowRank, 32>(all_passes, true) + 1);
}

}  // namespace mad::testing
