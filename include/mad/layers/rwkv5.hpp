// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// RWKV-5 (Eagle): a time mixer with a matrix state per head and learned decays, and its channel mixer.
#pragma once

#include <mad/layers/rwkv.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/token_shift.hpp>

namespace mad {

/// The time mixer of RWKV-5 (Peng et al. 2024, arXiv 2404.05892, section 4.1): receptance, key, value and gate from
/// mixtures of the token and the one before it; per head, with decays w and a bonus u for the token itself,
///
///     o_t = r_t (S_{t-1} + diag(u) k_t^T v_t),   S_t = diag(w) S_{t-1} + k_t^T v_t,   w = exp(-exp(time_decay))
///
/// divided by `head_dim_divisor`, then GroupNorm over heads, the gate, and the output projection. State per sequence:
/// D d numbers and one token.
template <RWKVTimeMixerOptions O>
struct RWKV5TimeMixerLayer {
  static_assert(O.head_dim > 0, "mad: rwkv5-time-mixer: head_dim is the width of a head, at least 1");
  static_assert(O.dim_att >= 0, "mad: rwkv5-time-mixer: dim_att is 0 or the width of the layer");
  static_assert(O.head_dim_divisor > 0, "mad: rwkv5-time-mixer: head_dim_divisor divides the heads' output: above 0");
  static_assert(O.layer_id >= 0 && O.layer_id < O.n_layer,
                "mad: rwkv5-time-mixer: layer_id counts from 0 and must be less than n_layer");

  static constexpr std::string_view name = "rwkv5-time-mixer";
  static constexpr std::string_view shorthand = "R5t";

  static constexpr Value forward(Value x) {
    if (!rwkv::fits(x, O)) return x;
    const int D = x.width();
    const int heads = D / O.head_dim;
    const rwkv::Depth depth(O.n_layer, O.layer_id);
    const Value previous = token_shift(x);
    const Value step = x - previous;
    const auto mix = [&](Name vector, double exponent, double offset) {
      return previous + step * rwkv::mixing_vector(x, vector, rwkv::ramp(exponent, offset, false));
    };
    const Value r = linear(mix("time_mix_r", 0.5 * depth.sigma, 0), D, "receptance");
    const Value k = linear(mix("time_mix_k", depth.sigma, 0), D, "key");
    const Value v = linear(mix("time_mix_v", depth.sigma, 0.3 * depth.rho), D, "value");
    const Value g = silu(linear(mix("time_mix_g", 0.5 * depth.sigma, 0), D, "gate"));
    const Value log_decay = -exp(rwkv::decay_vector(x, "time_decay", {heads, O.head_dim}, depth.rho));
    const Value u = rwkv::bonus_vector(x, "time_faaaa", heads, O.head_dim, depth.rho);
    const Value o =
        linear_recurrence_with_bonus(r, k, v, log_decay, u, {.heads = heads, .scale = 1 / O.head_dim_divisor});
    return rwkv::gated_output(o, g, heads, 1e-5);
  }
};

struct RWKV5TimeMixer : RWKV5TimeMixerLayer<RWKVTimeMixerOptions{}> {};

/// The channel mixer of RWKV-5: sigmoid(receptance(m_r)) * value( relu(key(m_k))^2 ), where each m_n mixes a token with
/// the one before it.
template <RWKVChannelMixerOptions O>
struct RWKV5ChannelMixerLayer {
  static_assert(O.dim_inner >= 0, "mad: rwkv5-channel-mixer: dim_inner is a width, or 0 for 4 D");
  static_assert(O.layer_id >= 0 && O.layer_id < O.n_layer,
                "mad: rwkv5-channel-mixer: layer_id counts from 0 and must be less than n_layer");

  static constexpr std::string_view name = "rwkv5-channel-mixer";
  static constexpr std::string_view shorthand = "R5c";

  static constexpr Value forward(Value x) {
    const Initial start = rwkv::ramp(rwkv::Depth(O.n_layer, O.layer_id).sigma, 0, false);
    const Value previous = token_shift(x);
    const Value step = x - previous;
    return rwkv::mix_channels(previous + step * rwkv::mixing_vector(x, "time_mix_k", start),
                              previous + step * rwkv::mixing_vector(x, "time_mix_r", start),
                              O.dim_inner > 0 ? O.dim_inner : 4 * x.width());
  }
};

struct RWKV5ChannelMixer : RWKV5ChannelMixerLayer<RWKVChannelMixerOptions{}> {};

}  // namespace mad
