// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel whose channels are a gate and two factors.
#pragma once

#include <mad/ops/elementwise.hpp>
#include <mad/ops/short_conv.hpp>

namespace mad {

namespace ops {

constexpr void gated_short_conv_adjoint(Differentiator& d, int node);
/// Those of the short convolution of all three groups, and the product.
constexpr double gated_short_conv_flops(const Graph&, const Node& n, Index) {
  return (2.0 * n.attribute[short_conv::kernel] + 1) * 3 * n.width + n.width;
}

/// Operands x (tokens, W), weight (one, 3 I * kernel), bias (one, 3 I); outputs gate and product (tokens, I). W divides
/// 3 I. The factors of the product are nowhere in memory. Both outputs are saved, as all of operations with several
/// are.
inline constexpr Operation gated_short_conv_op{.name = "gated short convolution",
                                               .adjoint = &gated_short_conv_adjoint,
                                               .flops = &gated_short_conv_flops,
                                               .state = &short_conv_state};
/// Operands d_gate, d_product, x, weight, bias, and optionally a factor (tokens, I) that d_gate is still to be
/// multiplied with; outputs dx, d_weight (added), d_bias (added).
inline constexpr Operation gated_short_conv_gradient_op{.name = "gated short convolution gradient", .adds = true};

/// True for a factor of a gate's gradient that whoever reads the gradient can multiply with: it has as many rows and
/// columns, lies in memory anyhow, and is stored as the gradient would be.
constexpr bool is_gate_factor(const Differentiator& d, const Node& d_gate, int factor) {
  const Node& n = d.node(factor);
  const bool is_in_memory = n.op->kind == Kind::leaf || n.op->kind == Kind::opaque || n.op->kind == Kind::result;
  return is_in_memory && n.domain == d_gate.domain && n.width == d_gate.width && !d.is_exact(factor);
}

//   u[t,c] = b[c] + sum_j w[c,j] x[t-(K-1)+j, c mod W],   gate = u_0,  product = u_1 u_2 with u = [u_0, u_1, u_2]
//   du_0 = d_gate,  du_1 = d_product u_2,  du_2 = d_product u_1;   dx, dw, db of du as for the short convolution
//
// Where the gate is multiplied with z, d_gate is dy z. If both lie in memory anyhow, the kernel can read them and
// multiply: d_gate need not be written and read.
constexpr void gated_short_conv_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value weight{&g, n.operand[1]};
  const Value bias{&g, n.operand[2]};
  const Value d_gate = d.adjoint(node);
  const Value d_product = d.adjoint_of_result(node, 1);
  const Value x = d.operand(node, 0);
  const int width = g.nodes[n.operand[0]].width;
  const Node of = d_gate.node();
  const bool in_factors = d.gives_factors() && of.op == &multiply_op && is_gate_factor(d, of, of.operand[0]) &&
                          is_gate_factor(d, of, of.operand[1]);
  const Value dx = in_factors
                       ? make(g, gated_short_conv_gradient_op, n.domain, width, Value{&g, of.operand[0]}, d_product, x,
                              weight, bias, Value{&g, of.operand[1]})
                       : make(g, gated_short_conv_gradient_op, n.domain, width, d_gate, d_product, x, weight, bias);
  g.nodes[dx.id].attribute[short_conv::kernel] = n.attribute[short_conv::kernel];
  const Value d_weight = result(dx, 1, Domain::one, weight.width());
  const Value d_bias = result(dx, 2, Domain::one, bias.width());
  d.add(n.operand[2], d_bias);
  d.add(n.operand[1], d_weight);
  d.add(n.operand[0], dx);
}

}  // namespace ops

/// What a gated short convolution gives: `inner` columns each.
struct GatedShortConv {
  Value gate;
  Value product;
};

/// Of `short_conv(x, 3 * inner, kernel, name)` with a bias, the first `inner` channels, and the product of the second
/// with the third. Parameters are those of `short_conv`.
constexpr GatedShortConv gated_short_conv(Value x, int inner, int kernel, Name name) {
  Graph& g = *x.graph;
  const int channels = 3 * inner;
  ops::check_short_conv(x, channels, kernel, name.line);
  Scope scope(x, name);
  const Value weight = ops::short_conv_weight(x, channels, kernel, name.line);
  const Value bias = ops::short_conv_bias(x, channels, kernel, name.line);
  const Value gate = ops::make(g, ops::gated_short_conv_op, Domain::tokens, inner, x, weight, bias);
  g.nodes[gate.id].attribute[ops::short_conv::kernel] = kernel;
  return {gate, ops::result(gate, 1, Domain::tokens, inner)};
}

}  // namespace mad
