// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// DeltaNet: linear attention with the delta rule.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/delta_rule.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/l2_norm.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>
#include <mad/ops/short_conv.hpp>

namespace mad {

struct DeltaNetOptions {
  int heads = 0;                      ///< H; 0: as many as `head_width` gives
  int head_width = 16;                ///< dk, used where `heads` is 0
  double expand_k = 1;                ///< width of queries and keys / D; the product must be a multiple of H
  double expand_v = 1;                ///< width of values / D; the product must be a multiple of H
  int conv = 4;                       ///< taps of the short convolutions
  bool output_gate = false;           ///< gate the normed heads with silu(g_proj x)
  bool negative_eigenvalues = false;  ///< let beta reach 2 instead of 1 (Grazzi et al. 2024, arXiv 2411.12537)
  double eps = 1e-5;                  ///< of the norm of the heads
};

namespace delta_net {

/// What is added to the square of the length of queries and keys.
inline constexpr double length_eps = 1e-6;

/// Linear map, short convolution without bias, silu.
constexpr Value project(Value x, int width, Name map, int taps, Name convolution) {
  return short_conv(linear(x, width, map), width, taps, convolution, {.bias = false, .silu = true});
}

/// RMSNorm of each head with a weight that all share, and the gate if there is one (its node is -1 if not).
constexpr Value head_norm(Value o, int head_width, double eps, Value gate = {}) {
  const Value normed = [&] {
    Scope scope(o, "o_norm");
    return rms_norm_heads(o, head_width, eps);
  }();
  return gate.id < 0 ? normed : normed * silu(gate);
}

}  // namespace delta_net

/// DeltaNet (Schlag et al. 2021, arXiv 2102.11174; Yang et al. 2024, arXiv 2406.06484, section 4): queries, keys and
/// values pass a short convolution and silu, queries and keys are brought to length 1, and per head
///
///     S_t = S_{t-1} + beta_t k_t^T (v_t - k_t S_{t-1}),   o_t = q_t S_t / sqrt(dk),   beta_t = sigmoid(b_proj x_t)
///
/// then an RMSNorm whose weight all heads share, the gate if asked for, and the output projection.
///
/// State per sequence: H dk dv = expand_v D dk numbers and the last inputs of the convolutions. The default head width
/// 16 makes it 2,048 at width 128 (8 heads of 16 x 16); other widths keep the head width, so that it grows as D.
template <DeltaNetOptions O>
struct DeltaNetLayer {
  static_assert(O.heads > 0 || (O.heads == 0 && O.head_width > 0),
                "mad: delta-net: give the number of heads or their width, heads > 0 or head_width > 0");
  static_assert(O.expand_k > 0 && O.expand_v > 0,
                "mad: delta-net: expand_k and expand_v are widths relative to the layer's, above 0");
  static_assert(O.conv > 0, "mad: delta-net: conv is a number of taps, at least 1");

  static constexpr std::string_view name = "delta-net";
  static constexpr std::string_view shorthand = "Dn";

  static constexpr Value forward(Value x) {
    const int key_width = static_cast<int>(O.expand_k * x.width());
    const int value_width = static_cast<int>(O.expand_v * x.width());
    const int heads = O.heads > 0 ? O.heads : key_width / O.head_width;
    if (heads == 0 || (O.heads == 0 && key_width % O.head_width != 0)) {
      x.graph->fail(Fault::not_divisible, key_width, O.head_width, __builtin_LINE());
      return x;
    }
    for (const int width : {key_width, value_width}) {
      if (width >= heads && width % heads == 0) continue;
      x.graph->fail(Fault::not_divisible, width, heads, __builtin_LINE());
      return x;
    }
    const Value q = delta_net::project(x, key_width, "q_proj", O.conv, "q_conv1d");
    const Value k = delta_net::project(x, key_width, "k_proj", O.conv, "k_conv1d");
    const Value v = delta_net::project(x, value_width, "v_proj", O.conv, "v_conv1d");
    const Value beta = sigmoid(linear(x, heads, "b_proj")) * (O.negative_eigenvalues ? 2.0 : 1.0);
    const Value gate = O.output_gate ? linear(x, value_width, "g_proj") : Value{};
    const auto unit = [&](Value heads_of) { return l2_norm_heads(heads_of, key_width / heads, delta_net::length_eps); };
    const Value o = delta_rule(unit(q), unit(k), v, beta, {.heads = heads});
    return linear(delta_net::head_norm(o, value_width / heads, O.eps, gate), x.width(), "o_proj");
  }
};

struct DeltaNet : DeltaNetLayer<DeltaNetOptions{}> {};

}  // namespace mad
