// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gated linear attention: linear attention whose matrix state forgets each key channel at a rate of its own.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/norm.hpp>

#include <limits>

namespace mad {

/// The function that the output gate goes through.
enum class OutputGate {
  swish,    ///< g sigmoid(g), the paper's
  sigmoid,  ///< sigmoid(g)
};

struct GatedLinearAttentionOptions {
  int heads = 0;                ///< H; 0: as many as `head_width` gives
  int head_width = 16;          ///< D / H, used where `heads` is 0
  double expand_k = 1;          ///< width of queries and keys / D; the product must be a multiple of H
  double expand_v = 1;          ///< width of values and output gate / D; the product must be a multiple of H
  int gate_rank = 16;           ///< r, rank of the forget gate's projection (the reference's `gate_low_rank_dim`)
  double gate_normaliser = 16;  ///< c, divides log gates: they start near 1 (`gate_logit_normalizer`)
  /// Smallest log gate, at most 0; minus infinity: no limit.
  double clamp_min = -std::numeric_limits<double>::infinity();
  double eps = 1e-5;                    ///< of the norm of the heads
  bool fuse_norm = false;               ///< call the norm's weight `g_norm_swish_gate.weight`, as the fused form does
  OutputGate gate = OutputGate::swish;  ///< the reference's `gate_fn`
};

/// Gated linear attention (Yang et al. 2023, arXiv 2312.06635, section 4): per head
///
///     a_t = logsigmoid(gk_proj x_t) / c,   S_t = diag(exp(a_t)) S_{t-1} + k_t^T v_t,   o_t = q_t S_t / sqrt(dk)
///
/// then an RMSNorm whose weight all heads share, the output gate, and the output projection. The reference's argument
/// `mode` selects between equal evaluations and has no counterpart. State per sequence: H dk dv numbers.
template <GatedLinearAttentionOptions O>
struct GatedLinearAttention {
  static_assert(O.heads > 0 || O.head_width > 0,
                "mad: gated-linear-attention: give the number of heads or their width, heads > 0 or head_width > 0");
  static_assert(O.expand_k > 0 && O.expand_v > 0,
                "mad: gated-linear-attention: expand_k and expand_v are widths relative to the layer's, above 0");
  static_assert(O.gate_rank > 0, "mad: gated-linear-attention: gate_rank is the rank of a projection, at least 1");
  static_assert(O.gate_normaliser > 0, "mad: gated-linear-attention: gate_normaliser divides log gates: above 0");
  static_assert(O.clamp_min <= 0, "mad: gated-linear-attention: clamp_min bounds a log gate, which is never above 0");
  static_assert(!O.fuse_norm || O.gate == OutputGate::swish,
                "mad: gated-linear-attention: fuse_norm names the norm fused with the swish gate: gate must be swish");

  static constexpr bool single = O.heads == 1;
  static constexpr std::string_view name = single ? "gated-linear-attention" : "mh-gated-linear-attention";
  static constexpr std::string_view shorthand = single ? "Alg" : "mAlg";

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
    const Value q = project(x, key_width, "q_proj");
    const Value k = project(x, key_width, "k_proj");
    const Value v = project(x, value_width, "v_proj");
    const Value g = project(x, value_width, "g_proj");
    const Value o = linear_recurrence(q, k, v, log_gate(x, key_width),
                                      {.heads = heads, .scale = 1 / square_root(key_width / heads)});
    return project(norm(o, value_width / heads) * (O.gate == OutputGate::swish ? silu(g) : sigmoid(g)), x.width(),
                   "o_proj");
  }

private:
  /// Glorot's uniform (2010) with the gain 2^(-5/2), for all maps of the layer.
  static constexpr Value project(Value x, int width, Name map, bool bias = false) {
    return linear(x, width, map, {.bias = bias, .weight_scale = square_root(6.0 / (32.0 * (x.width() + width)))});
  }

  static constexpr Value log_gate(Value x, int width) {
    Scope scope(x, "gk_proj");
    const Value a = -softplus(-project(project(x, O.gate_rank, "0"), width, "1", true)) * (1 / O.gate_normaliser);
    if constexpr (O.clamp_min < -std::numeric_limits<double>::max())
      return a;
    else
      return a + relu(O.clamp_min - a);  // max(a, clamp_min), not a bit changed where a is the larger
  }

  static constexpr Value norm(Value o, int head_width) {
    Scope scope(o, O.fuse_norm ? "g_norm_swish_gate" : "g_norm");
    return rms_norm_heads(o, head_width, O.eps);
  }
};

/// The reference's `mh-gated-linear-attention`: heads of width 16, 8 of them at width 128.
struct GLA : GatedLinearAttention<GatedLinearAttentionOptions{}> {};
/// The reference's `gated-linear-attention`: a single head of the whole width.
struct SingleHeadGLA : GatedLinearAttention<GatedLinearAttentionOptions{.heads = 1}> {};

}  // namespace mad
