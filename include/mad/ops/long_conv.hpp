// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution with a filter as long as the sequence.
#pragma once

#include <mad/ops/elementwise.hpp>

namespace mad {

namespace ops {

constexpr void long_conv_adjoint(Differentiator& d, int node);
constexpr void gated_long_conv_adjoint(Differentiator& d, int node);
/// Of the plain sum: a multiply and an add per visible tap, and the skip. (A device may use transforms instead.)
constexpr double long_conv_flops(const Graph&, const Node& n, Index length) {
  return (static_cast<double>(length) + 1 + 2) * n.width;
}
/// The same with a product before and after.
constexpr double gated_long_conv_flops(const Graph& g, const Node& n, Index length) {
  return long_conv_flops(g, n, length) + 2.0 * n.width;
}
/// The whole history of the input: a convolution without a recurrence has no smaller state.
constexpr Index long_conv_state(const Graph&, const Node& n, Index length) { return length * n.width; }

/// Operands h (positions, F), skip (one, F): whatever the device wants to know of the filter, once per step.
inline constexpr Operation long_conv_prepare_op{.name = "long convolution filter", .prepared = true};
/// Operands a, b (tokens, C), prepared filter, h (positions, F), skip (one, F), gate (tokens, C); outputs gate y and y,
/// the long convolution of a b.
inline constexpr Operation gated_long_conv_op{
    .name = "gated long convolution", .adjoint = &gated_long_conv_adjoint, .flops = &gated_long_conv_flops};
/// Operands u (tokens, C), prepared filter, h (positions, F), skip (one, F); channel c uses column c mod F.
inline constexpr Operation long_conv_op{.name = "long convolution",
                                        .gated = &gated_long_conv_op,
                                        .adjoint = &long_conv_adjoint,
                                        .flops = &long_conv_flops,
                                        .state = &long_conv_state};
/// Operands dy, u, prepared filter, h, skip; outputs du, dh (added), d_skip (added).
inline constexpr Operation long_conv_gradient_op{.name = "long convolution gradient", .adds = true};
/// Operands dy, prepared filter, h, skip, a, b; outputs da, db.
inline constexpr Operation gated_long_conv_gradient_op{.name = "gated long convolution gradient"};
/// Operands dy, u; outputs dh (added), d_skip (added).
inline constexpr Operation long_conv_filter_gradient_op{.name = "long convolution filter gradient", .adds = true};

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

//   z = gate y, y of u = a b:   d_gate = dz y,  dy = dz gate;  du as above,  da = du b,  db = du a
// The filter's gradient reads dy and u again and again, so these are stored; du is not. It is an operation of its own,
// since nothing in the backward pass waits for it.
constexpr void gated_long_conv_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dz = d.adjoint(node);
  Graph& g = *dz.graph;
  const Value a = d.operand(node, 0);
  const Value b = d.operand(node, 1);
  const Value prepared{&g, n.operand[2]};
  const Value h{&g, n.operand[3]};
  const Value skip{&g, n.operand[4]};
  const Value d_gate = dz * Value{&g, node + 1};
  const Value dy = dz * d.operand(node, 5);
  const Value dh = make(g, long_conv_filter_gradient_op, Domain::positions, h.width(), dy, a * b);
  const Value d_skip = result(dh, 1, Domain::one, skip.width());
  const Value da = make(g, gated_long_conv_gradient_op, n.domain, n.width, dy, prepared, h, skip, a, b);
  const Value db = result(da, 1, n.domain, n.width);
  d.add(n.operand[3], dh);
  d.add(n.operand[4], d_skip);
  d.add(n.operand[5], d_gate);
  d.add(n.operand[0], da);
  d.add(n.operand[1], db);
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
