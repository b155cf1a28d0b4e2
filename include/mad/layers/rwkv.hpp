// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What versions 5 and 6 of RWKV share: options, and initial values that depend on channel and depth.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>

#include <cmath>
#include <initializer_list>

namespace mad {

struct RWKVTimeMixerOptions {
  int head_dim = 16;            ///< d, width of a head; a divisor of D
  int dim_att = 0;              ///< width of receptance, key and value; 0 or D: the operator knows no other
  double head_dim_divisor = 8;  ///< q: what the heads' output is divided by before their norm
  int n_layer = 1;              ///< depth that the initial values are made for, in time mixers
  int layer_id = 0;             ///< place of this time mixer among them, from 0
};

struct RWKVChannelMixerOptions {
  int dim_inner = 0;  ///< inner width; 0: 4 D
  int n_layer = 1;    ///< depth that the initial values are made for, in channel mixers
  int layer_id = 0;   ///< place of this channel mixer among them, from 0
};

namespace rwkv {

/// Both in [0, 1]: how deep a layer lies (0 for the first), and how much of the depth is left (1 for the first).
struct Depth {
  double rho;
  double sigma;
  constexpr Depth(int n_layer, int layer_id)
      : rho(n_layer > 1 ? static_cast<double>(layer_id) / (n_layer - 1) : 0),
        sigma(1 - static_cast<double>(layer_id) / n_layer) {}
};

/// number 2 + number 3 ((i/D)^(number 0) + number 1) for channel i.
inline void fill_ramp(const Parameter& p, Index, const Initial::Source&, double* values) {
  const int width = p.dims[2];
  const double* n = p.initial.number;
  for (int i = 0; i < width; ++i) values[i] = n[2] + n[3] * (std::pow(static_cast<double>(i) / width, n[0]) + n[1]);
}

/// Position of channel j in [0, 1].
inline double place(Index j, Index width) {
  return width > 1 ? static_cast<double>(j) / static_cast<double>(width - 1) : 0;
}

/// -6 + 5 (j/(A-1))^(0.7 + 1.3 rho): the double logarithm of decays, from slow to fast channels.
inline void fill_decay(const Parameter& p, Index max_length, const Initial::Source&, double* values) {
  const Index width = p.count(max_length);
  for (Index j = 0; j < width; ++j) values[j] = -6 + 5 * std::pow(place(j, width), 0.7 + 1.3 * p.initial.number[0]);
}

/// rho (1 - j/(A-1)) + 0.1 ((j+1) mod 3 - 1): a ramp and a zigzag.
inline void fill_bonus(const Parameter& p, Index max_length, const Initial::Source&, double* values) {
  const Index width = p.count(max_length);
  for (Index j = 0; j < width; ++j)
    values[j] = p.initial.number[0] * (1 - place(j, width)) + 0.1 * static_cast<double>((j + 1) % 3 - 1);
}

/// The start of a mixing vector (1, 1, D): (i/D)^exponent + offset for the share of the current token, as version 5
/// stores it; one minus that, the share of the previous token, for version 6.
constexpr Initial ramp(double exponent, double offset, bool of_previous) {
  return {.kind = Initial::Kind::filled,
          .fill = &fill_ramp,
          .number = {exponent, offset, of_previous ? 1.0 : 0.0, of_previous ? -1.0 : 1.0}};
}

/// A mixing vector of one number per channel.
constexpr Value mixing_vector(Value x, Name name, const Initial& initial) {
  return parameter(x, name, {.dims = {1, 1, x.width()}, .rank = 3, .initial = initial});
}

constexpr Value decay_vector(Value x, Name name, std::initializer_list<int> dims, double rho) {
  ParameterSpec spec{.initial = {.kind = Initial::Kind::filled, .fill = &fill_decay, .number = {rho}}};
  for (const int dim : dims) spec.dims[spec.rank++] = dim;
  return parameter(x, name, spec);
}

constexpr Value bonus_vector(Value x, Name name, int heads, int head_dim, double rho) {
  return parameter(x, name,
                   {.dims = {heads, head_dim},
                    .rank = 2,
                    .initial = {.kind = Initial::Kind::filled, .fill = &fill_bonus, .number = {rho}}});
}

/// True where the options fit the width; records what does not.
constexpr bool fits(Value x, const RWKVTimeMixerOptions& o, int line = __builtin_LINE()) {
  if (o.dim_att != 0 && o.dim_att != x.width()) x.graph->fail(Fault::widths_differ, o.dim_att, x.width(), line);
  if (x.width() % o.head_dim != 0) x.graph->fail(Fault::not_divisible, x.width(), o.head_dim, line);
  return x.graph->fault == Fault::none;
}

/// output( GroupNorm_H(o) * gate ): the end of a time mixer.
constexpr Value gated_output(Value o, Value gate, int heads, double eps) {
  const Value normed = [&] {
    Scope scope(o, "ln_x");
    return group_norm(o, heads, eps);
  }();
  return linear(normed * gate, o.width(), "output");
}

/// sigmoid(receptance(x_r)) * value( relu(key(x_k))^2 ): the channel mixer of both versions.
constexpr Value mix_channels(Value x_k, Value x_r, int inner) {
  const int width = x_k.width();
  const Value hidden = linear(square(relu(linear(x_k, inner, "key"))), width, "value");
  return sigmoid(linear(x_r, width, "receptance")) * hidden;
}

}  // namespace rwkv

}  // namespace mad
