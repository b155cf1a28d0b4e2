// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gated DeltaNet: the delta rule with a decay per head.
#pragma once

#include <mad/layers/delta_net.hpp>
#include <mad/layers/mamba.hpp>

#include <cmath>

namespace mad {

struct GatedDeltaNetOptions {
  int heads = 0;                      ///< heads of queries and keys; 0: D / 2 channels in heads of `head_width`
  int value_heads = 0;                ///< Hv, heads of values, a multiple of `heads`; 0: as many
  int head_width = 16;                ///< dk
  double expand_v = 2;                ///< dv / dk
  int conv = 4;                       ///< taps of the short convolutions
  bool output_gate = true;            ///< gate the normed heads with silu(g_proj x)
  bool negative_eigenvalues = false;  ///< let beta reach 2 instead of 1
  double a_max = 16;                  ///< initial decay rates are uniform in (0, a_max]
  double dt_min = 0.001;              ///< initial time steps are log-uniform in [dt_min, dt_max]
  double dt_max = 0.1;
  double dt_floor = 1e-4;  ///< and at least this
  double eps = 1e-5;       ///< of the norm of the heads
};

namespace gated_delta_net {

/// The logarithm of a uniform number in (0, number 0].
inline void fill_a_log(const Parameter& p, Index, const Initial::Source& source, double* values) {
  for (int h = 0; h < p.dims[0]; ++h) values[h] = std::log(p.initial.number[0] * (1 - source.uniform()));
}

}  // namespace gated_delta_net

/// Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464, section 3): DeltaNet whose state decays before
/// it is read, by a rate per value head that depends on the token as Mamba-2's does:
///
///     S' = exp(g_t) S_{t-1},   g_t = -exp(A_log) softplus(a_proj x_t + dt_bias)
///     S_t = S' + beta_t k_t^T (v_t - k_t S'),   o_t = q_t S_t / sqrt(dk)
///
/// then the gated norm of the heads and the output projection. Value head h uses query and key of head
/// floor(h H / Hv).
///
/// State per sequence: Hv dk dv numbers and the last inputs of the convolutions. By default keys take D / 2 channels
/// and values D (the paper's 3 D / 4 and 3 D / 2 in proportion), which at width 128 is 2,048 numbers (4 heads of
/// 16 x 32); other widths keep the head width, so that it grows as D.
template <GatedDeltaNetOptions O>
struct GatedDeltaNetLayer {
  static_assert(O.head_width > 0 && O.heads >= 0 && O.value_heads >= 0,
                "mad: gated-delta-net: head_width is at least 1; heads and value_heads are numbers of heads, or 0");
  static_assert(O.heads <= 0 || O.value_heads % (O.heads > 0 ? O.heads : 1) == 0,
                "mad: gated-delta-net: value_heads must be a multiple of heads");
  static_assert(O.expand_v * O.head_width >= 1 &&
                    O.expand_v * O.head_width == static_cast<int>(O.expand_v * O.head_width),
                "mad: gated-delta-net: expand_v * head_width is the width of a value head, a whole number");
  static_assert(O.conv > 0, "mad: gated-delta-net: conv is a number of taps, at least 1");
  static_assert(O.a_max > 0, "mad: gated-delta-net: a_max bounds the initial decay rates, above 0");
  static_assert(O.dt_min > 0 && O.dt_min <= O.dt_max,
                "mad: gated-delta-net: initial time steps need 0 < dt_min <= dt_max");

  static constexpr std::string_view name = "gated-delta-net";
  static constexpr std::string_view shorthand = "Gdn";

  static constexpr Value forward(Value x) {
    constexpr int value_head_width = static_cast<int>(O.expand_v * O.head_width);
    const int heads = O.heads > 0 ? O.heads : x.width() / 2 / O.head_width;
    const int value_heads = O.value_heads > 0 ? O.value_heads : heads;
    if (heads == 0 || value_heads % heads != 0) {
      x.graph->fail(Fault::not_divisible, heads == 0 ? x.width() : value_heads, heads == 0 ? 2 * O.head_width : heads,
                    __builtin_LINE());
      return x;
    }
    const int key_width = heads * O.head_width;
    const int value_width = value_heads * value_head_width;
    const Value q = delta_net::project(x, key_width, "q_proj", O.conv, "q_conv1d");
    const Value k = delta_net::project(x, key_width, "k_proj", O.conv, "k_conv1d");
    const Value v = delta_net::project(x, value_width, "v_proj", O.conv, "v_conv1d");
    const Value beta = sigmoid(linear(x, value_heads, "b_proj")) * (O.negative_eigenvalues ? 2.0 : 1.0);
    const Value A_log =
        per_head(x, "A_log", value_heads,
                 {.kind = Initial::Kind::filled, .fill = &gated_delta_net::fill_a_log, .number = {O.a_max}});
    const Value dt_bias = per_head(
        x, "dt_bias", value_heads,
        {.kind = Initial::Kind::filled, .fill = &mamba::fill_dt_bias, .number = {O.dt_min, O.dt_max, O.dt_floor}});
    const Value g = -(exp(A_log) * softplus(linear(x, value_heads, "a_proj") + dt_bias));
    const Value gate = O.output_gate ? linear(x, value_width, "g_proj") : Value{};
    const auto unit = [](Value heads_of) { return l2_norm_heads(heads_of, O.head_width, delta_net::length_eps); };
    const Value o = delta_rule(unit(q), unit(k), v, beta, g, {.heads = value_heads, .key_heads = heads});
    return linear(delta_net::head_norm(o, value_head_width, O.eps, gate), x.width(), "o_proj");
  }

private:
  static constexpr Value per_head(Value x, Name what, int heads, const Initial& initial) {
    return parameter(x, what, {.dims = {heads}, .rank = 1, .initial = initial, .decay = false});
  }
};

struct GatedDeltaNet : GatedDeltaNetLayer<GatedDeltaNetOptions{}> {};

}  // namespace mad
