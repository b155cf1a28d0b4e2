// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "stepping.hpp"

#include <mad/layers/delta_net.hpp>
#include <mad/layers/gated_delta_net.hpp>
#include <mad/layers/gated_linear_attention.hpp>
#include <mad/layers/hgrn2.hpp>
#include <mad/layers/linear_attention.hpp>
#include <mad/layers/mamba2.hpp>
#include <mad/layers/retnet.hpp>
#include <mad/layers/rwkv5.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/rwkv7.hpp>

namespace mad {

using testing::check_steps;

TEST_CASE("linear attention by steps equals that of whole sequences") {
  using O = LinearAttentionOptions;
  // Maps that cannot be negative: the normaliser of the others can come close to zero.
  check_steps<LinearAttention<O{.feature_map = FeatureMap::elu, .norm_q = true, .norm_k = true}>, 16>();
  check_steps<LinearAttention<O{.heads = 1, .feature_map = FeatureMap::hedgehog}>, 6>();
  check_steps<LinearAttention<O{.feature_map = FeatureMap::taylor, .expand_v = 2}>, 8>();
}

TEST_CASE("gated recurrences by steps equal those of whole sequences") {
  check_steps<GLA, 32>();
  check_steps<SingleHeadGLA, 12>();
  check_steps<RetNet, 16>();
  check_steps<HGRN2, 32>();
  check_steps<Mamba2Layer<Mamba2Options{.state = 3, .head_width = 8, .groups = 2}>, 16>();
}

TEST_CASE("RWKV by steps equals RWKV of whole sequences") {
  check_steps<RWKV5TimeMixer, 32>();
  check_steps<RWKV5ChannelMixer, 12>();
  check_steps<RWKV6TimeMixer, 32>();
  check_steps<RWKV6ChannelMixer, 12>();
  check_steps<RWKV7TimeMixer, 32>();
  check_steps<RWKV7ChannelMixer, 12>();
}

TEST_CASE("delta rules by steps equal those of whole sequences") {
  check_steps<DeltaNet, 32>();
  check_steps<DeltaNetLayer<DeltaNetOptions{.heads = 2, .output_gate = true, .negative_eigenvalues = true}>, 12>();
  check_steps<GatedDeltaNet, 32>();
}

}  // namespace mad
