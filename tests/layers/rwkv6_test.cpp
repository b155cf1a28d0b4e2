// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"
#include "start.hpp"

#include <mad/layers/rwkv6.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using Time = RWKVTimeMixerOptions;
using Channel = RWKVChannelMixerOptions;

template <class L>
constexpr Graph graph_of = build_graph<L, 128>(all_passes);

static_assert(parameter_count(graph_of<RWKV6TimeMixer>, 1) == 140544);
static_assert(parameter_count(graph_of<RWKV6ChannelMixer>, 1) == 147712);
static_assert(state_size(graph_of<RWKV6TimeMixer>, 1000) == 8 * 16 * 16 + 128);  // states, and the last token
static_assert(state_size(graph_of<RWKV6ChannelMixer>, 1000) == 128);
static_assert(RWKV6TimeMixer::name == "rwkv6-time-mixer" && RWKV6TimeMixer::shorthand == "R6t");
static_assert(RWKV6ChannelMixer::name == "rwkv6-channel-mixer" && RWKV6ChannelMixer::shorthand == "R6c");

}  // namespace

TEST_CASE("the time mixer of RWKV-6 agrees with the reference") {
  using testing::check_golden;
  check_golden<RWKV6TimeMixerLayer<Time{.head_dim = 4}>, 16>("rwkv6-time-mixer_d16_l7", 64);
  check_golden<RWKV6TimeMixer, 16>("rwkv6-time-mixer_d16_l24", 24);
  check_golden<RWKV6TimeMixerLayer<Time{.head_dim = 8, .head_dim_divisor = 4}>, 24>("rwkv6-time-mixer_div4_d24_l24",
                                                                                    64);
}

TEST_CASE("the channel mixer of RWKV-6 agrees with the reference") {
  using testing::check_golden;
  check_golden<RWKV6ChannelMixerLayer<Channel{.dim_inner = 64}>, 32>("rwkv6-channel-mixer_d32_l7", 64);
  check_golden<RWKV6ChannelMixerLayer<Channel{.dim_inner = 32}>, 48>("rwkv6-channel-mixer_d48_l24", 64);
}

TEST_CASE("RWKV-6 starts as in the reference") {
  using L = RWKV6TimeMixerLayer<Time{.head_dim = 8, .n_layer = 4, .layer_id = 2}>;
  testing::check_start<L, 32>("init_rwkv6-time-mixer_d32_layer2of4");
  constexpr Graph g = build_graph<L, 32>(all_passes);
  for (const char* name : {"time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2"})
    testing::check_range(testing::start_of(g, name), -1e-4, 1e-4);
}

TEST_CASE("the channel mixer of RWKV-6 starts with one minus the mixture of RWKV-5") {
  // sigma = 1/2 for the third of four layers; channel 9 of 16.
  constexpr Graph g = build_graph<RWKV6ChannelMixerLayer<Channel{.n_layer = 4, .layer_id = 2}>, 16>(all_passes);
  CHECK(testing::start_of(g, "time_maa_k")[9] == Approx(0.25));
  CHECK(testing::start_of(g, "time_maa_r")[9] == Approx(0.25));
}

TEST_CASE("RWKV-6 is proved") {
  REQUIRE(testing::check_layer<RWKV6TimeMixerLayer<Time{.head_dim = 8}>, 16>());
  REQUIRE(testing::check_layer<RWKV6ChannelMixer, 6>());
}

}  // namespace mad
