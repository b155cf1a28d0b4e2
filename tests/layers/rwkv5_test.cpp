// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"
#include "start.hpp"

#include <mad/layers/rwkv5.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using Time = RWKVTimeMixerOptions;
using Channel = RWKVChannelMixerOptions;

template <class L>
constexpr Graph graph_of = build_graph<L, 128>(all_passes);

static_assert(parameter_count(graph_of<RWKV5TimeMixer>, 1) == 82944);
static_assert(parameter_count(graph_of<RWKV5ChannelMixer>, 1) == 147712);
static_assert(state_size(graph_of<RWKV5TimeMixer>, 1000) == 8 * 16 * 16 + 128);  // states, and the last token
static_assert(state_size(graph_of<RWKV5ChannelMixer>, 1000) == 128);
static_assert(RWKV5TimeMixer::name == "rwkv5-time-mixer" && RWKV5TimeMixer::shorthand == "R5t");
static_assert(RWKV5ChannelMixer::name == "rwkv5-channel-mixer" && RWKV5ChannelMixer::shorthand == "R5c");
// The layer's width may be given explicitly.
static_assert(Lowered<RWKV5TimeMixerLayer<Time{.dim_att = 32}>, 32>::output_width == 32);

}  // namespace

TEST_CASE("the time mixer of RWKV-5 agrees with the reference") {
  using testing::check_golden;
  check_golden<RWKV5TimeMixerLayer<Time{.head_dim = 8}>, 32>("rwkv5-time-mixer_d32_l7", 64);
  check_golden<RWKV5TimeMixer, 32>("rwkv5-time-mixer_d32_l24", 64);
  check_golden<RWKV5TimeMixerLayer<Time{.head_dim = 4, .head_dim_divisor = 4, .n_layer = 4, .layer_id = 2}>, 16>(
      "rwkv5-time-mixer_div4_d16_l24", 64);
}

TEST_CASE("the channel mixer of RWKV-5 agrees with the reference") {
  using testing::check_golden;
  check_golden<RWKV5ChannelMixerLayer<Channel{.dim_inner = 64}>, 32>("rwkv5-channel-mixer_d32_l7", 64);
  check_golden<RWKV5ChannelMixerLayer<Channel{.dim_inner = 32}>, 48>("rwkv5-channel-mixer_d48_l24", 64);
}

TEST_CASE("RWKV-5 starts as in the reference") {
  testing::check_start<RWKV5TimeMixerLayer<Time{.head_dim = 8}>, 32>("init_rwkv5-time-mixer_d32");
}

TEST_CASE("RWKV-5's initial values follow the depth") {
  // rho = 2/3 and sigma = 1/2 for the third of four layers; channel 9 of 16.
  using testing::start_of;
  constexpr Graph time =
      build_graph<RWKV5TimeMixerLayer<Time{.head_dim = 4, .n_layer = 4, .layer_id = 2}>, 16>(all_passes);
  CHECK(start_of(time, "time_mix_k")[9] == Approx(0.75));             // (9/16)^(1/2)
  CHECK(start_of(time, "time_mix_v")[9] == Approx(0.95));             // and 0.3 * 2/3
  CHECK(start_of(time, "time_mix_r")[9] == Approx(std::sqrt(0.75)));  // (9/16)^(1/4)
  CHECK(start_of(time, "time_mix_g")[9] == Approx(std::sqrt(0.75)));
  CHECK(start_of(time, "time_decay")[9] == Approx(-6 + 5 * std::pow(0.6, 0.7 + 1.3 * 2 / 3)));
  CHECK(start_of(time, "time_faaaa")[9] == Approx(2.0 / 3 * 0.4));  // the zigzag is 0 there
  CHECK(start_of(time, "time_faaaa")[10] == Approx(2.0 / 3 / 3 + 0.1));
  constexpr Graph channel = build_graph<RWKV5ChannelMixerLayer<Channel{.n_layer = 4, .layer_id = 2}>, 16>(all_passes);
  CHECK(start_of(channel, "time_mix_k")[9] == Approx(0.75));
  CHECK(start_of(channel, "time_mix_r")[9] == Approx(0.75));
}

TEST_CASE("RWKV-5 is proved") {
  REQUIRE(testing::check_layer<RWKV5TimeMixerLayer<Time{.head_dim = 8}>, 16>());
  REQUIRE(testing::check_layer<RWKV5ChannelMixer, 6>());
}

}  // namespace mad
