// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax over groups of channels.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

/// Attributes of a softmax node and of its gradient.
namespace softmax {
enum Attribute { group };
}

constexpr void softmax_adjoint(Differentiator& d, int node);
/// Largest, difference, exponential, sum and quotient.
constexpr double softmax_flops(const Graph&, const Node& n, Index) { return 5.0 * n.width; }

/// Operand x (rows, C); each group of contiguous channels becomes positive and sums to 1.
inline constexpr Operation softmax_op{
    .name = "softmax", .in_place = 0, .adjoint = &softmax_adjoint, .flops = &softmax_flops};
/// Operands dy, y (rows, C); output dx.
inline constexpr Operation softmax_gradient_op{.name = "softmax gradient", .in_place = 0};

//   y_i = exp(x_i) / sum_j exp(x_j):   dx_i = y_i (dy_i - sum_j dy_j y_j)
constexpr void softmax_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  const Value dx = make(*dy.graph, softmax_gradient_op, n.domain, n.width, dy, d.forward(node));
  dx.graph->nodes[dx.id].attribute[softmax::group] = n.attribute[softmax::group];
  d.add(n.operand[0], dx);
}

}  // namespace ops

/// exp(x) / sum of exp(x) over each group of \p group contiguous channels; x (rows, C), C a multiple of \p group.
/// The largest of a group is subtracted first, so that nothing overflows.
constexpr Value softmax(Value x, int group, int line = __builtin_LINE()) {
  if (group < 1 || x.width() % group != 0) x.graph->fail(Fault::not_divisible, x.width(), group, line);
  const Value y = ops::make(*x.graph, ops::softmax_op, x.domain(), x.width(), x);
  x.graph->nodes[y.id].attribute[ops::softmax::group] = group;
  return y;
}

}  // namespace mad
