// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// RetNet: multi-scale retention, a matrix state per head with a fixed decay.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/norm.hpp>
#include <mad/ops/rotary.hpp>

#include <cmath>

namespace mad {

struct RetNetOptions {
  int heads = 0;        ///< H; 0: as many as `head_width` gives
  int head_width = 8;   ///< D / H, used where `heads` is 0
  double expand_k = 1;  ///< width of queries and keys / D; the product must be a multiple of H, each head even
  double expand_v = 2;  ///< width of values and gate / D; the product must be a multiple of H
  double rotary_base = 10000;
  double eps = 1e-5;  ///< of the norm of the heads
};

namespace retnet {

/// log gamma_h with gamma_h = 1 - 2^(-5-h).
inline void fill_log_decay(const Parameter& p, Index, const Initial::Source&, double* values) {
  for (int h = 0; h < p.dims[0]; ++h) values[h] = std::log1p(-std::exp2(-5.0 - h));
}

}  // namespace retnet

/// Multi-scale retention (Sun et al. 2023, arXiv 2307.08621, section 2): queries and keys are rotated by their
/// positions over the whole head; per head h
///
///     S_t = gamma_h S_{t-1} + k_t^T v_t,   o_t = q_t S_t / sqrt(dk),   gamma_h = 1 - 2^(-5-h)
///
/// then an RMSNorm whose weight all heads share (where the paper has a GroupNorm), the swish gate, and the output
/// projection. Decays are not learned.
///
/// State per sequence: H dk dv = expand_k expand_v D head_width numbers. The default head width 8 makes it 2,048 at
/// width 128 (16 heads, dk 8, dv 16), as much as the other mixers' defaults; other widths keep the head width, so that
/// the state grows as D.
template <RetNetOptions O>
struct RetNetLayer {
  static_assert(O.heads > 0 || O.head_width > 0,
                "mad: retnet: give the number of heads or their width, heads > 0 or head_width > 0");
  static_assert(O.expand_k > 0 && O.expand_v > 0,
                "mad: retnet: expand_k and expand_v are widths relative to the layer's, above 0");
  static_assert(O.rotary_base > 0, "mad: retnet: rotary_base is the base of a geometric sequence, above 0");

  static constexpr std::string_view name = "retnet";
  static constexpr std::string_view shorthand = "Rn";

  static constexpr Value forward(Value x) {
    const int divisor = O.heads > 0 ? O.heads : O.head_width;
    if (x.width() % divisor != 0) {
      x.graph->fail(Fault::not_divisible, x.width(), divisor, __builtin_LINE());
      return x;
    }
    const int heads = O.heads > 0 ? O.heads : x.width() / O.head_width;
    const int key_width = static_cast<int>(O.expand_k * x.width());
    const int value_width = static_cast<int>(O.expand_v * x.width());
    for (const int width : {key_width, value_width}) {
      if (width >= heads && width % heads == 0) continue;
      x.graph->fail(Fault::not_divisible, width, heads, __builtin_LINE());
      return x;
    }
    const Value q = rotary(linear(x, key_width, "q_proj"), heads, {.base = O.rotary_base});
    const Value k = rotary(linear(x, key_width, "k_proj"), heads, {.base = O.rotary_base});
    const Value v = linear(x, value_width, "v_proj");
    const Value g = linear(x, value_width, "g_proj");
    const Value log_gamma = parameter(x, "log_decay",
                                      {.dims = {heads},
                                       .rank = 1,
                                       .initial = {.kind = Initial::Kind::filled, .fill = &retnet::fill_log_decay},
                                       .is_constant = true});
    const Value o =
        linear_recurrence(q, k, v, log_gamma, {.heads = heads, .scale = 1 / square_root(key_width / heads)});
    const Value normed = [&] {
      Scope scope(x, "g_norm_swish_gate");
      return rms_norm_heads(o, value_width / heads, O.eps);
    }();
    return linear(normed * silu(g), x.width(), "o_proj");
  }
};

struct RetNet : RetNetLayer<RetNetOptions{}> {};

}  // namespace mad
