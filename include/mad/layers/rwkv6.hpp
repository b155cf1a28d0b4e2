// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// RWKV-6 (Finch): RWKV-5 with mixtures and decays that depend on the token.
#pragma once

#include <mad/layers/rwkv.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/token_shift.hpp>

namespace mad {

namespace rwkv6 {

inline constexpr int mixing_rank = 32;  ///< of each of the five token-dependent mixtures; fixed in the reference
inline constexpr int decay_rank = 64;   ///< of the token-dependent decay; fixed in the reference

/// One factor of a low-rank map, stored (in, out); no linear map of the backbones, which leave it alone.
constexpr Value low_rank(Value x, Name name, std::initializer_list<int> dims) {
  ParameterSpec spec{.initial = Initial::uniform(1e-4)};
  for (const int dim : dims) spec.dims[spec.rank++] = dim;
  return parameter(x, name, spec);
}

}  // namespace rwkv6

/// The time mixer of RWKV-6 (Peng et al. 2024, arXiv 2404.05892, section 4.2): as in RWKV-5, but how much of the
/// previous token goes into decay, key, value, receptance and gate is itself computed from the token by maps of rank
/// 32, and so are the decays, by a map of rank 64:
///
///     s = tanh((x + delta maa_x) maa_w1),   delta_t = x_{t-1} - x_t
///     x_n = x + delta (maa_n + s_n maa_w2[n]),   n = w, k, v, r, g
///     w_t = exp(-exp(time_decay + tanh(x_w decay_w1) decay_w2))
///
/// `head_dim_divisor` q appears as the GroupNorm's eps 1e-5 q^2. The reference's `max_length` has no effect on the
/// numbers and no counterpart. State per sequence: D d numbers and one token.
template <RWKVTimeMixerOptions O>
struct RWKV6TimeMixerLayer {
  static_assert(O.head_dim > 0, "mad: rwkv6-time-mixer: head_dim is the width of a head, at least 1");
  static_assert(O.dim_att >= 0, "mad: rwkv6-time-mixer: dim_att is 0 or the width of the layer");
  static_assert(O.head_dim_divisor > 0, "mad: rwkv6-time-mixer: head_dim_divisor divides the heads' output: above 0");
  static_assert(O.layer_id >= 0 && O.layer_id < O.n_layer,
                "mad: rwkv6-time-mixer: layer_id counts from 0 and must be less than n_layer");

  static constexpr std::string_view name = "rwkv6-time-mixer";
  static constexpr std::string_view shorthand = "R6t";

  static constexpr Value forward(Value x) {
    if (!rwkv::fits(x, O)) return x;
    constexpr int rank = rwkv6::mixing_rank;
    const int D = x.width();
    const int heads = D / O.head_dim;
    const rwkv::Depth depth(O.n_layer, O.layer_id);
    const auto maa = [&](Name vector, double exponent, double offset) {
      return rwkv::mixing_vector(x, vector, rwkv::ramp(exponent, offset, true));
    };
    const Value delta = token_shift(x) - x;
    const Value maa_w1 = rwkv6::low_rank(x, "time_maa_w1", {D, 5 * rank});
    const Value maa_w2 = rwkv6::low_rank(x, "time_maa_w2", {5, rank, D});
    const Value s = tanh(matmul(x + delta * maa("time_maa_x", depth.sigma, 0), maa_w1));
    const auto mix = [&](int n, Name vector, double exponent, double offset) {
      const Value m = matmul(slice(s, n * rank, rank), slice(maa_w2, n * rank * D, rank * D));
      return x + delta * (maa(vector, exponent, offset) + m);
    };
    const Value x_w = mix(0, "time_maa_w", depth.sigma, 0);
    const Value k = linear(mix(1, "time_maa_k", depth.sigma, 0), D, "key");
    const Value v = linear(mix(2, "time_maa_v", depth.sigma, 0.3 * depth.rho), D, "value");
    const Value r = linear(mix(3, "time_maa_r", 0.5 * depth.sigma, 0), D, "receptance");
    const Value g = silu(linear(mix(4, "time_maa_g", 0.5 * depth.sigma, 0), D, "gate"));

    const Value decay_w1 = rwkv6::low_rank(x, "time_decay_w1", {D, rwkv6::decay_rank});
    const Value decay_w2 = rwkv6::low_rank(x, "time_decay_w2", {rwkv6::decay_rank, D});
    const Value log_decay =
        -exp(rwkv::decay_vector(x, "time_decay", {1, 1, D}, depth.rho) + matmul(tanh(matmul(x_w, decay_w1)), decay_w2));
    const Value u = rwkv::bonus_vector(x, "time_faaaa", heads, O.head_dim, depth.rho);
    const Value o = linear_recurrence_with_bonus(r, k, v, log_decay, u, {.heads = heads});
    return rwkv::gated_output(o, g, heads, 1e-5 * O.head_dim_divisor * O.head_dim_divisor);
  }
};

struct RWKV6TimeMixer : RWKV6TimeMixerLayer<RWKVTimeMixerOptions{}> {};

/// The channel mixer of RWKV-6: that of RWKV-5 with time_maa = 1 - time_mix.
template <RWKVChannelMixerOptions O>
struct RWKV6ChannelMixerLayer {
  static_assert(O.dim_inner >= 0, "mad: rwkv6-channel-mixer: dim_inner is a width, or 0 for 4 D");
  static_assert(O.layer_id >= 0 && O.layer_id < O.n_layer,
                "mad: rwkv6-channel-mixer: layer_id counts from 0 and must be less than n_layer");

  static constexpr std::string_view name = "rwkv6-channel-mixer";
  static constexpr std::string_view shorthand = "R6c";

  static constexpr Value forward(Value x) {
    const Initial start = rwkv::ramp(rwkv::Depth(O.n_layer, O.layer_id).sigma, 0, true);
    const Value delta = token_shift(x) - x;
    return rwkv::mix_channels(x + delta * rwkv::mixing_vector(x, "time_maa_k", start),
                              x + delta * rwkv::mixing_vector(x, "time_maa_r", start),
                              O.dim_inner > 0 ? O.dim_inner : 4 * x.width());
  }
};

struct RWKV6ChannelMixer : RWKV6ChannelMixerLayer<RWKVChannelMixerOptions{}> {};

}  // namespace mad
