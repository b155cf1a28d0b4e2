// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The product of two maps that all heads share.
#pragma once

#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear_heads.hpp>

namespace mad {

namespace ops {

constexpr void head_product_adjoint(Differentiator& d, int node);
/// Two maps, and a multiply per column.
constexpr double head_product_flops(const Graph&, const Node& n, Index) {
  return (2.0 * (2.0 * n.attribute[linear_heads::in] + 1) + 1) * n.width;
}

/// Operands x (rows, H * in), W1 (one, out * in), b1 (one, out), W2, b2; output y (rows, H * out). Attributes as those
/// of one map.
inline constexpr Operation head_product_op{
    .name = "head product", .adjoint = &head_product_adjoint, .flops = &head_product_flops};
/// Operands dy, then those of the operation; outputs dx, dW1, db1, dW2, db2 (all but dx added). The factors are
/// computed again from x: that costs less than to read them.
inline constexpr Operation head_product_gradient_op{.name = "head product gradient", .adds = true};

//   y_h = a_h * c_h,  a_h = x_h W1^T + b1,  c_h = x_h W2^T + b2:
//   da_h = dy_h * c_h,  dc_h = dy_h * a_h,  dx_h = da_h W1 + dc_h W2,
//   dW1 = sum over rows and heads of da_h^T x_h,  db1 = sum over rows and heads of da_h;  dW2, db2 likewise of dc_h
constexpr void head_product_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value dx =
      make(g, head_product_gradient_op, n.domain, d.node(n.operand[0]).width, d.adjoint(node), d.operand(node, 0),
           d.operand(node, 1), d.operand(node, 2), d.operand(node, 3), d.operand(node, 4));
  for (int i = 0; i < Node::max_attributes; ++i) g.nodes[dx.id].attribute[i] = n.attribute[i];
  Value d_parameter[5];
  for (int k = 1; k < n.operands; ++k) d_parameter[k] = result(dx, k, Domain::one, d.node(n.operand[k]).width);
  for (int k = 1; k < n.operands; ++k) d.add(n.operand[k], d_parameter[k]);
  d.add(n.operand[0], dx);
}

/// Wider heads are matrix products worth a kernel each.
inline constexpr int widest_narrow_head = 32;

}  // namespace ops

/// first(x_h) * second(x_h) of every head h, for two maps of the same widths. One operation where heads are narrow and
/// both maps have biases.
constexpr Value head_product(Value x, int heads, const HeadMap& first, const HeadMap& second,
                             int line = __builtin_LINE()) {
  const Value y = first(x, heads, line);
  Graph& g = *x.graph;
  if (g.fault != Fault::none) return y;
  if (first.bias.graph == nullptr || second.bias.graph == nullptr) return y * second(x, heads, line);
  Node& n = g.nodes[y.id];
  const int in = n.attribute[ops::linear_heads::in];
  const int out = n.attribute[ops::linear_heads::out];
  if (in > ops::widest_narrow_head || out > ops::widest_narrow_head) return y * second(x, heads, line);
  if (second.weight.width() != in * out) g.fail(Fault::widths_differ, second.weight.width(), in * out, line);
  if (second.bias.width() != out) g.fail(Fault::widths_differ, second.bias.width(), out, line);
  n.op = &ops::head_product_op;
  n.operand[n.operands++] = second.weight.id;
  n.operand[n.operands++] = second.bias.id;
  return y;
}

}  // namespace mad
