// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution with a filter as long as the sequence.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

constexpr void long_conv_adjoint(Differentiator& d, int node);
/// Of the plain sum: a multiply and an add per visible tap, and the skip. (A device may use transforms instead.)
constexpr double long_conv_flops(const Graph&, const Node& n, Index length) {
  return (static_cast<double>(length) + 1 + 2) * n.width;
}
/// The whole history of the input: a convolution without a recurrence has no smaller state.
constexpr Index long_conv_state(const Graph&, const Node& n, Index length) { return length * n.width; }

/// Operands h (positions, F), skip (one, F): whatever the device wants to know of the filter, once per step.
inline constexpr Operation long_conv_prepare_op{.name = "long convolution filter", .prepared = true};
/// Operands u (tokens, C), prepared filter, h (positions, F), skip (one, F); channel c uses column c mod F.
inline constexpr Operation long_conv_op{
    .name = "long convolution", .adjoint = &long_conv_adjoint, .flops = &long_conv_flops, .state = &long_conv_state};
/// Operands dy, u, prepared filter, h, skip; outputs du, dh (added), d_skip (added).
inline constexpr Operation long_conv_gradient_op{.name = "long convolution gradient", .adds = true};

//   y[t] = sum_{s<=t} h[t-s] u[s] + skip u[t]
//   du[s] = sum_{t>=s} h[t-s] dy[t] + skip dy[s],  dh[j] = sum_t dy[t] u[t-j],  d_skip = sum_t dy[t] u[t]
constexpr void long_conv_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value prepared{&g, n.operand[1]};
  const Value h{&g, n.operand[2]};
  const Value skip{&g, n.operand[3]};
  const Value du =
      make(g, long_conv_gradient_op, n.domain, n.width, d.adjoint(node), d.operand(node, 0), prepared, h, skip);
  const Value dh = result(du, 1, Domain::positions, h.width());
  const Value d_skip = result(du, 2, Domain::one, skip.width());
  d.add(n.operand[2], dh);
  d.add(n.operand[3], d_skip);
  d.add(n.operand[0], du);
}

}  // namespace ops

/// (h conv u)[t] + skip u[t] per channel, causal. u has one row per token, the filter h one row per position and a
/// divisor of u's width; skip is a single row of h's width.
constexpr Value long_conv(Value u, Value h, Value skip, int line = __builtin_LINE()) {
  Graph& g = *u.graph;
  if (u.width() % h.width() != 0) g.fail(Fault::not_divisible, u.width(), h.width(), line);
  if (skip.width() != h.width()) g.fail(Fault::widths_differ, skip.width(), h.width(), line);
  if (h.domain() != Domain::positions) g.fail(Fault::wrong_domain, static_cast<int>(h.domain()), 1, line);
  const Value prepared = ops::make(g, ops::long_conv_prepare_op, Domain::positions, h.width(), h, skip);
  g.nodes[prepared.id].attribute[0] = u.width();
  return ops::make(g, ops::long_conv_op, Domain::tokens, u.width(), u, prepared, h, skip);
}

}  // namespace mad
