// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// RWKV-7 (Goose): a matrix state with a generalised delta rule.
#pragma once

#include <mad/layers/rwkv.hpp>
#include <mad/ops/diagonal_plus_rank_one.hpp>
#include <mad/ops/l2_norm.hpp>
#include <mad/ops/token_shift.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mad {

struct RWKV7TimeMixerOptions {
  int head_dim = 16;   ///< d, width of a head; a divisor of D
  int decay_rank = 0;  ///< of the low-rank map to decays; 0: 32 round(1.8 D^0.5 / 32), at least 32
  int rate_rank = 0;   ///< of that to in-context rates; 0: as for decays
  int gate_rank = 0;   ///< of that to gates; 0: 32 round(0.6 D^0.8 / 32), at least 32
  int n_layer = 1;     ///< depth that the initial values are made for, in time mixers
  int layer_id = 0;    ///< place of this time mixer among them, from 0
};

struct RWKV7ChannelMixerOptions {
  int dim_inner = 0;  ///< inner width; 0: 4 D
  int n_layer = 1;    ///< depth that the initial values are made for, in channel mixers
  int layer_id = 0;   ///< place of this channel mixer among them, from 0
};

namespace rwkv7 {

/// 32 round(c / 32), at least 32, for c = 1.8 D^(1/2).
constexpr int decay_rank(int width) {
  const int blocks = static_cast<int>(1.8 * square_root(width) / 32 + 0.5);
  return 32 * (blocks > 1 ? blocks : 1);
}

/// The same for c = 0.6 D^(4/5): the largest number n of blocks with 32 (n - 1/2) <= c.
constexpr int gate_rank(int width) {
  const auto reaches = [&](int n) {
    const double u = 32 * (n - 0.5) / 0.6;
    const double w = width;
    return u * u * u * u * u <= w * w * w * w;
  };
  int blocks = 1;
  while (reaches(blocks + 1)) ++blocks;
  return 32 * blocks;
}

/// The zigzag z|z| with z from -1 to 1 within each head of `number`-given width.
inline double zigzag(Index channel, Index head_width) {
  if (head_width < 2) return 0;
  const double half = static_cast<double>(head_width - 1) / 2;
  const double z = (static_cast<double>(channel % head_width) - half) / half;
  return z * std::abs(z);
}

/// -6 + 6 (i/(D-1))^(1 + rho^0.3) + 0.5 + 2.5 zigzag, of the decay before its sigmoid; numbers: rho, head width.
inline void fill_decay(const Parameter& p, Index, const Initial::Source&, double* values) {
  const int width = p.dims[2];
  const double power = 1 + std::pow(p.initial.number[0], 0.3);
  for (int i = 0; i < width; ++i)
    values[i] =
        -5.5 + 6 * std::pow(rwkv::place(i, width), power) + 2.5 * zigzag(i, static_cast<Index>(p.initial.number[1]));
}

/// number 0 + number 1 (i/(D-1) - 1/2) + number 2 zigzag, head width number 3.
inline void fill_line(const Parameter& p, Index, const Initial::Source&, double* values) {
  const int width = p.dims[2];
  const double* n = p.initial.number;
  for (int i = 0; i < width; ++i)
    values[i] = n[0] + n[1] * (rwkv::place(i, width) - 0.5) + n[2] * zigzag(i, static_cast<Index>(n[3]));
}

/// Orthonormal rows or columns, whichever are fewer, times number 0: normal numbers, orthogonalised one after the
/// other.
inline void fill_orthogonal(const Parameter& p, Index, const Initial::Source& source, double* values) {
  const Index rows = p.dims[0], columns = p.dims[1];
  const Index count = std::min(rows, columns), length = std::max(rows, columns);
  const Index step = rows <= columns ? 1 : columns, next = rows <= columns ? columns : 1;
  const auto entry = [&](Index vector, Index i) -> double& { return values[vector * next + i * step]; };
  for (Index vector = 0; vector < count; ++vector) {
    for (Index i = 0; i < length; ++i)
      entry(vector, i) =
          std::sqrt(-2 * std::log1p(-source.uniform())) * std::cos(2 * std::numbers::pi * source.uniform());
    // Twice: what rounding leaves of the earlier vectors the first time is gone after the second.
    for (int pass = 0; pass < 2; ++pass)
      for (Index earlier = 0; earlier < vector; ++earlier) {
        double inner = 0;
        for (Index i = 0; i < length; ++i) inner += entry(earlier, i) * entry(vector, i);
        for (Index i = 0; i < length; ++i) entry(vector, i) -= inner * entry(earlier, i);
      }
    double square_length = 0;
    for (Index i = 0; i < length; ++i) square_length += entry(vector, i) * entry(vector, i);
    for (Index i = 0; i < length; ++i) entry(vector, i) /= std::sqrt(square_length);
  }
  for (Index i = 0; i < rows * columns; ++i) values[i] *= p.initial.number[0];
}

constexpr Initial orthogonal(double gain) {
  return {.kind = Initial::Kind::filled, .fill = &fill_orthogonal, .number = {gain}};
}

/// A linear map with a start of its own: `name.weight` (width, x.width()).
constexpr Value linear_from(Value x, int width, Name name, const Initial& initial) {
  Scope scope(x, name);
  return linear(x, parameter(x, {"weight", name.line},
                             {.dims = {width, x.width()}, .rank = 2, .role = Role::matrix, .initial = initial}));
}

/// One vector of a number per channel.
constexpr Value channel_vector(Value x, Name name, const Initial& initial) {
  return parameter(x, name, {.dims = {1, 1, x.width()}, .rank = 3, .initial = initial});
}

/// The two factors of a low-rank map, stored (in, out): zero, and orthogonal with gain 0.1 (more where the second has
/// more rows than columns, by the root of their ratio).
constexpr Value factor(Value x, Name name, int in, int out, const Initial& initial) {
  return parameter(x, name, {.dims = {in, out}, .rank = 2, .initial = initial});
}
constexpr Value narrow(Value x, Name name, int rank) {
  return matmul(x, factor(x, name, x.width(), rank, Initial::constant(0)));
}
constexpr Value widen(Value hidden, Name name, int width) {
  const int rank = hidden.width();
  const double gain = rank > width ? 0.1 * square_root(static_cast<double>(rank) / width) : 0.1;
  return matmul(hidden, factor(hidden, name, rank, width, orthogonal(gain)));
}

/// number 0 to the power number 1.
inline void fill_power(const Parameter& p, Index max_length, const Initial::Source&, double* values) {
  std::fill_n(values, p.count(max_length), std::pow(p.initial.number[0], p.initial.number[1]));
}

/// GroupNorm over the heads whose weight starts at share^0.7, share = (layer_id + 1) / n_layer.
constexpr Value head_norm(Value o, int heads, double eps, double share) {
  Scope scope(o, "ln_x");
  const Value y = group_norm(o, heads, eps);
  const Node& weight = y.graph->nodes[y.node().operand[1]];
  y.graph->parameters[weight.attribute[0]].initial = {
      .kind = Initial::Kind::filled, .fill = &fill_power, .number = {share, 0.7}};
  return y;
}

}  // namespace rwkv7

/// The time mixer of RWKV-7 (Peng et al. 2025, arXiv 2503.14456, section 4): receptance, key, value, decay, in-context
/// rate and gate see the token mixed with the one before it, x_n = x + (x_{t-1} - x) mu_n; per head, with kk = key *
/// k_k of length 1 and k = key (1 + (a - 1) k_a),
///
///     w_t = exp(-exp(-1/2) sigmoid(w0 + tanh(x_w w1) w2)),   a_t = sigmoid(a0 + x_a a1 a2)
///     S_t = S_{t-1} diag(w_t) - (S_{t-1} kk_t^T) (kk_t * a_t) + v_t^T k_t,   o_t = S_t r_t^T
///
/// then a GroupNorm over the heads (eps = 1e-5 d), the bonus (r_t * r_k).k_t v_t, the gate sigmoid(x_g g1) g2 and the
/// output projection. Parameters have the names of the authors' code.
///
/// Left out: the value residual, by which later layers mix the first layer's values into their own (v0, v1, v2 there).
/// It needs a second stream from block to block, and a layer here sees its input alone; every time mixer is a first
/// one in this respect. The initial values do depend on the place among the time mixers, by `n_layer` and `layer_id`;
/// unless told otherwise a layer starts as the first and only one.
///
/// State per sequence: D d numbers and the last token. The default head width 16 makes it 2,048 numbers at width 128
/// (8 heads of 16 x 16); other widths keep the head width, so that it grows as D.
template <RWKV7TimeMixerOptions O>
struct RWKV7TimeMixerLayer {
  static_assert(O.head_dim > 0, "mad: rwkv7-time-mixer: head_dim is the width of a head, at least 1");
  static_assert(O.decay_rank >= 0 && O.rate_rank >= 0 && O.gate_rank >= 0,
                "mad: rwkv7-time-mixer: decay_rank, rate_rank and gate_rank are ranks, or 0 to follow the width");
  static_assert(O.layer_id >= 0 && O.layer_id < O.n_layer,
                "mad: rwkv7-time-mixer: layer_id counts from 0 and must be less than n_layer");

  static constexpr std::string_view name = "rwkv7-time-mixer";
  static constexpr std::string_view shorthand = "R7t";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const int heads = D / O.head_dim;
    if (D % O.head_dim != 0) {
      x.graph->fail(Fault::not_divisible, D, O.head_dim, __builtin_LINE());
      return x;
    }
    constexpr rwkv::Depth depth(O.n_layer, O.layer_id);
    const Value delta = token_shift(x) - x;
    const auto mix = [&](Name vector, double exponent) {
      return x + delta * rwkv7::channel_vector(x, vector, rwkv::ramp(exponent * depth.sigma, 0, true));
    };
    const auto head_dim = static_cast<double>(O.head_dim);
    const auto line = [&](Name vector, double middle, double slope, double bend) {
      return rwkv7::channel_vector(
          x, vector,
          {.kind = Initial::Kind::filled, .fill = &rwkv7::fill_line, .number = {middle, slope, bend, head_dim}});
    };
    const Value r = rwkv7::linear_from(mix("x_r", 0.2), D, "receptance", rwkv7::orthogonal(1));
    const Value key = rwkv7::linear_from(mix("x_k", 0.7), D, "key", rwkv7::orthogonal(0.1));
    const Value v = rwkv7::linear_from(mix("x_v", 0.7), D, "value", rwkv7::orthogonal(1));

    const Value w0 = rwkv7::channel_vector(
        x, "w0", {.kind = Initial::Kind::filled, .fill = &rwkv7::fill_decay, .number = {depth.rho, head_dim}});
    const int decay_rank = O.decay_rank > 0 ? O.decay_rank : rwkv7::decay_rank(D);
    const Value raw_w = w0 + rwkv7::widen(tanh(rwkv7::narrow(mix("x_w", 0.9), "w1", decay_rank)), "w2", D);
    const Value log_w = sigmoid(raw_w) * -0.60653065971263342360;  // exp(-1/2)
    const int rate_rank = O.rate_rank > 0 ? O.rate_rank : rwkv7::decay_rank(D);
    const Value a =
        sigmoid(line("a0", -0.19, 0.4, 0.3) + rwkv7::widen(rwkv7::narrow(mix("x_a", 0.9), "a1", rate_rank), "a2", D));
    const int gate_rank = O.gate_rank > 0 ? O.gate_rank : rwkv7::gate_rank(D);
    const Value g = rwkv7::widen(sigmoid(rwkv7::narrow(mix("x_g", 0.2), "g1", gate_rank)), "g2", D);

    // The authors floor the norm at 1e-12; as a term under the root that is the same number for every norm above 1e-6.
    const Value kk = l2_norm_heads(key * line("k_k", 0.71, -0.1, 0), O.head_dim, 1e-24);
    const Value k_a = rwkv7::channel_vector(x, "k_a", Initial::constant(1.02));
    const Value k = key * ((a - 1.0) * k_a + 1.0);
    const Value o = diagonal_plus_rank_one(r, log_w, k, v, -kk, kk * a, heads);
    const double share = static_cast<double>(O.layer_id + 1) / O.n_layer;
    const Value normed = rwkv7::head_norm(o, heads, 1e-5 * O.head_dim, share);
    const Value r_k =
        parameter(x, "r_k", {.dims = {heads, O.head_dim}, .rank = 2, .initial = Initial::constant(-0.04)});
    const Value bonus = spread(sum_to(r * k * r_k, Domain::tokens, heads, Fold::spread), D) * v;
    return rwkv7::linear_from((normed + bonus) * g, D, "output", Initial::constant(0));
  }
};

struct RWKV7TimeMixer : RWKV7TimeMixerLayer<RWKV7TimeMixerOptions{}> {};

/// The channel mixer of RWKV-7: value(relu(key(x + (x_{t-1} - x) x_k))^2), without the receptance gate of earlier
/// versions. State per sequence: the last token.
template <RWKV7ChannelMixerOptions O>
struct RWKV7ChannelMixerLayer {
  static_assert(O.dim_inner >= 0, "mad: rwkv7-channel-mixer: dim_inner is a width, or 0 for 4 D");
  static_assert(O.layer_id >= 0 && O.layer_id < O.n_layer,
                "mad: rwkv7-channel-mixer: layer_id counts from 0 and must be less than n_layer");

  static constexpr std::string_view name = "rwkv7-channel-mixer";
  static constexpr std::string_view shorthand = "R7c";

  static constexpr Value forward(Value x) {
    constexpr double sigma = rwkv::Depth(O.n_layer, O.layer_id).sigma;
    const int inner = O.dim_inner > 0 ? O.dim_inner : 4 * x.width();
    const Value x_k = rwkv7::channel_vector(x, "x_k", rwkv::ramp(sigma * sigma * sigma * sigma, 0, true));
    const Value mixed = x + (token_shift(x) - x) * x_k;
    const Value hidden = rwkv7::linear_from(mixed, inner, "key", Initial::uniform(0.5 / square_root(x.width())));
    return rwkv7::linear_from(square(relu(hidden)), x.width(), "value", Initial::constant(0));
  }
};

struct RWKV7ChannelMixer : RWKV7ChannelMixerLayer<RWKV7ChannelMixerOptions{}> {};

}  // namespace mad
