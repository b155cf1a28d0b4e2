// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel, and if wanted silu of what comes out.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

struct ShortConvOptions {
  bool bias = true;
  bool silu = false;  ///< multiplies the result by its sigmoid, in the same pass
};

namespace ops {

namespace short_conv {
enum Attribute { kernel, silu };
}

constexpr void short_conv_adjoint(Differentiator& d, int node);
constexpr double short_conv_flops(const Graph&, const Node& n, Index) {
  return (2.0 * n.attribute[short_conv::kernel] + (n.operands > 2 ? 1 : 0) + (n.attribute[short_conv::silu] ? 2 : 0)) *
         n.width;
}
/// The last kernel - 1 inputs.
constexpr Index short_conv_state(const Graph& g, const Node& n, Index length) {
  const Index kept = n.attribute[short_conv::kernel] - 1;
  return (kept < length ? kept : length) * g.nodes[n.operand[0]].width;
}

/// Operands x (tokens, W), weight (one, C * kernel) and optionally bias (one, C); C is a multiple of W and channel c
/// reads column c mod W.
inline constexpr Operation short_conv_op{.name = "short convolution",
                                         .cheap = true,
                                         .adjoint = &short_conv_adjoint,
                                         .flops = &short_conv_flops,
                                         .state = &short_conv_state};
/// Operands dy, x, weight, and with silu the bias if there is one; outputs dx, d_weight (added), d_bias (added; present
/// if the node has a bias). With silu what it is taken of is computed again.
inline constexpr Operation short_conv_gradient_op{.name = "short convolution gradient", .adds = true};

//   y[t,c] = b[c] + sum_j w[c,j] x[t-(K-1)+j, c mod W];  with silu y s, and dy silu'(y) below for dy:
//   s = sigmoid(y), silu'(y) = s + y s (1 - s)
//   dx[s,i] = sum over c = i mod W, j of w[c,j] dy[s+(K-1)-j, c],  dw[c,j] = sum_t dy[t,c] x[t-(K-1)+j, c mod W]
constexpr void short_conv_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value weight{&g, n.operand[1]};
  const Value dx = make(g, short_conv_gradient_op, n.domain, g.nodes[n.operand[0]].width, d.adjoint(node),
                        d.operand(node, 0), weight);
  Node& gradient = g.nodes[dx.id];
  gradient.attribute[short_conv::kernel] = n.attribute[short_conv::kernel];
  gradient.attribute[short_conv::silu] = n.attribute[short_conv::silu];
  if (n.attribute[short_conv::silu] != 0 && n.operands > 2) gradient.operand[gradient.operands++] = n.operand[2];
  const Value d_weight = result(dx, 1, Domain::one, weight.width());
  if (n.operands > 2) {
    const Value d_bias = result(dx, 2, Domain::one, n.width);
    d.add(n.operand[2], d_bias);
  }
  d.add(n.operand[1], d_weight);
  d.add(n.operand[0], dx);
}

constexpr void check_short_conv(Value x, int channels, int kernel, int line) {
  Graph& g = *x.graph;
  if (channels % x.width() != 0) g.fail(Fault::not_divisible, channels, x.width(), line);
  if (kernel < 1) g.fail(Fault::bad_option, kernel, 1, line);
  if (x.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(x.domain()), 0, line);
}
constexpr Value short_conv_weight(Value x, int channels, int kernel, int line) {
  return parameter(x, {"weight", line},
                   {.dims = {channels, 1, kernel},
                    .rank = 3,
                    .role = Role::convolution,
                    .initial = Initial::uniform(1.0 / square_root(kernel))});
}
constexpr Value short_conv_bias(Value x, int channels, int kernel, int line) {
  return parameter(x, {"bias", line},
                   {.dims = {channels},
                    .rank = 1,
                    .role = Role::convolution,
                    .initial = Initial::uniform(1.0 / square_root(kernel))});
}

}  // namespace ops

/// Depthwise causal convolution of `channels` channels (a multiple of x.width(): the block of x is tiled) with kernel
/// `kernel`; the last tap acts on the current position. Parameters `name.weight` (channels, 1, kernel) and
/// `name.bias` (channels), both uniform on [-1/sqrt(kernel), 1/sqrt(kernel)].
constexpr Value short_conv(Value x, int channels, int kernel, Name name, ShortConvOptions options = {}) {
  Graph& g = *x.graph;
  ops::check_short_conv(x, channels, kernel, name.line);
  Scope scope(x, name);
  const Value weight = ops::short_conv_weight(x, channels, kernel, name.line);
  Value y;
  if (options.bias) {
    const Value shift = ops::short_conv_bias(x, channels, kernel, name.line);
    y = ops::make(g, ops::short_conv_op, Domain::tokens, channels, x, weight, shift);
  } else {
    y = ops::make(g, ops::short_conv_op, Domain::tokens, channels, x, weight);
  }
  g.nodes[y.id].attribute[ops::short_conv::kernel] = kernel;
  g.nodes[y.id].attribute[ops::short_conv::silu] = options.silu;
  return y;
}

}  // namespace mad
