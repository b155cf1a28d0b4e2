// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Mamba-2: a selective state-space model with one decay per head.
#pragma once

#include <mad/layers/mamba.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/norm.hpp>

#include <limits>

namespace mad {

struct Mamba2Options {
  int state = 8;        ///< N, rows of a head's matrix state
  int conv = 4;         ///< taps of the short convolution
  double expand = 2;    ///< inner width I / D; the product must be a multiple of the head width
  int head_width = 64;  ///< P; H = I / P heads
  int groups = 1;       ///< G, heads h with the same h / (H/G) share B and C; a divisor of H
  double a_min = 1;     ///< initial decay rates are uniform in [a_min, a_max]
  double a_max = 16;
  double dt_min = 0.001;  ///< initial time steps are log-uniform in [dt_min, dt_max]
  double dt_max = 0.1;
  double dt_floor = 1e-4;  ///< and at least this
  double dt_lowest = 0;    ///< time steps are clamped to [dt_lowest, dt_highest]
  double dt_highest = std::numeric_limits<double>::infinity();
  bool conv_bias = true;
  bool bias = false;  ///< of the input and output projections
  double eps = 1e-5;  ///< of the norm
};

namespace mamba2 {

/// The logarithm of a uniform number in [number 0, number 1].
inline void fill_a_log(const Parameter& p, Index, const Initial::Source& source, double* values) {
  const double low = p.initial.number[0];
  const double high = p.initial.number[1];
  for (int h = 0; h < p.dims[0]; ++h) values[h] = std::log(low + source.uniform() * (high - low));
}

}  // namespace mamba2

/// Mamba-2 (Dao and Gu 2024, arXiv 2405.21060, sections 6 and 7): one projection to gate z, x, B, C and time step; a
/// short convolution over x, B and C; per head, with a decay rate and a skip D,
///
///     S_t = exp(-dt_t exp(A_log)) S_{t-1} + dt_t x_t^T B_t,   y_t = S_t C_t + D x_t,   dt = softplus(dt + dt_bias)
///
/// then the gate, an RMSNorm over each group's channels, and the output projection.
///
/// State per sequence: I N numbers and the last taps of the convolution. The default N = 8 makes it 2,048 at width 128
/// (4 heads of width 64), as much as the other mixers' defaults; other widths keep P, N and I / D.
template <Mamba2Options O>
struct Mamba2Layer {
  static_assert(O.state > 0 && O.conv > 0 && O.head_width > 0 && O.groups > 0,
                "mad: mamba2: state, conv, head_width and groups are sizes, at least 1");
  static_assert(O.expand > 0, "mad: mamba2: expand is a width relative to the layer's, above 0");
  static_assert(O.a_min > 0 && O.a_min <= O.a_max, "mad: mamba2: initial decay rates need 0 < a_min <= a_max");
  static_assert(O.dt_min > 0 && O.dt_min <= O.dt_max, "mad: mamba2: initial time steps need 0 < dt_min <= dt_max");
  static_assert(O.dt_lowest >= 0 && O.dt_lowest < O.dt_highest,
                "mad: mamba2: the range of time steps needs 0 <= dt_lowest < dt_highest");

  static constexpr std::string_view name = "mamba2";
  static constexpr std::string_view shorthand = "Mb2";

  static constexpr Value forward(Value x) {
    const int inner = static_cast<int>(O.expand * x.width());
    const int heads = inner / O.head_width;
    if (heads == 0 || inner % O.head_width != 0 || heads % O.groups != 0) {
      const bool uneven = heads > 0 && inner % O.head_width == 0;
      x.graph->fail(Fault::not_divisible, uneven ? heads : inner, uneven ? O.groups : O.head_width, __builtin_LINE());
      return x;
    }
    const int states = O.groups * O.state;  // width of B, and of C
    const int mixed = inner + 2 * states;
    const Value projected = linear(x, inner + mixed + heads, "in_proj", {.bias = O.bias});
    const Value z = slice(projected, 0, inner);
    const Value xBC =
        short_conv(slice(projected, inner, mixed), mixed, O.conv, "conv1d", {.bias = O.conv_bias, .silu = true});
    const Value u = slice(xBC, 0, inner);
    const Value B = slice(xBC, inner, states);
    const Value C = slice(xBC, inner + states, states);
    const Value dt = time_step(slice(projected, inner + mixed, heads));
    const Value A_log = per_head(
        x, "A_log", heads, {.kind = Initial::Kind::filled, .fill = &mamba2::fill_a_log, .number = {O.a_min, O.a_max}});
    const Value D = per_head(x, "D", heads, Initial::constant(1));
    const Value y =
        linear_recurrence(C, B, u * spread(dt, inner), -(dt * exp(A_log)), {.heads = heads, .key_groups = O.groups}) +
        u * spread(D, inner);
    const Value normed = [&] {
      Scope scope(x, "norm");
      return rms_norm_groups(y * silu(z), O.groups, O.eps);
    }();
    return linear(normed, x.width(), "out_proj", {.bias = O.bias});
  }

private:
  static constexpr Value per_head(Value x, Name what, int heads, const Initial& initial) {
    return parameter(x, what, {.dims = {heads}, .rank = 1, .initial = initial, .decay = false});
  }

  /// softplus(raw + dt_bias), clamped; within the limits not a bit changes.
  static constexpr Value time_step(Value raw) {
    Value dt = softplus(raw + per_head(raw, "dt_bias", raw.width(),
                                       {.kind = Initial::Kind::filled,
                                        .fill = &mamba::fill_dt_bias,
                                        .number = {O.dt_min, O.dt_max, O.dt_floor}}));
    if (O.dt_lowest > 0) dt = dt + relu(O.dt_lowest - dt);
    if (O.dt_highest <= std::numeric_limits<double>::max()) dt = dt - relu(dt - O.dt_highest);
    return dt;
  }
};

struct Mamba2 : Mamba2Layer<Mamba2Options{}> {};

}  // namespace mad
