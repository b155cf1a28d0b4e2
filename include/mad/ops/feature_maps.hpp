// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Feature maps of linear attention that multiply channels of a head with each other.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

/// Attributes of the nodes of this header: heads, and the width of one before the map.
namespace feature_map {
enum Attribute { heads, head_width };
}

constexpr int dpfp_shifts = 4;
constexpr int dpfp_width(int head_width) { return 2 * dpfp_shifts * head_width; }
constexpr int taylor_width(int head_width) { return 1 + 2 * head_width + head_width * (head_width - 1) / 2; }

constexpr void dpfp_adjoint(Differentiator& d, int node);
constexpr void taylor_adjoint(Differentiator& d, int node);

/// Operand x (rows, H d), output (rows, H 8 d).
inline constexpr Operation dpfp_op{.name = "dpfp", .cheap = true, .adjoint = &dpfp_adjoint, .flops = &flops_per_column};
/// Operands dy (rows, H 8 d), x (rows, H d); output dx.
inline constexpr Operation dpfp_gradient_op{.name = "dpfp gradient"};
/// Operand x (rows, H d), output (rows, H (1 + 2 d + d (d-1)/2)).
inline constexpr Operation taylor_op{
    .name = "taylor", .cheap = true, .adjoint = &taylor_adjoint, .flops = &flops_per_column};
/// Operands dy, x (rows, H d); output dx.
inline constexpr Operation taylor_gradient_op{.name = "taylor gradient"};

constexpr void feature_map_adjoint(Differentiator& d, int node, const Operation& gradient) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  const Value dx = make(*dy.graph, gradient, n.domain, d.node(n.operand[0]).width, dy, d.operand(node, 0));
  for (int i = 0; i < Node::max_attributes; ++i) dx.graph->nodes[dx.id].attribute[i] = n.attribute[i];
  d.add(n.operand[0], dx);
}

//   y_{j,i} = r_i r_{i-j}:   dr_i = sum_j dy_{j,i} r_{i-j} + dy_{j,i+j} r_{i+j}   (indices mod 2 d)
//   r = [relu(x), -relu(x)]:   dx_i = [x_i > 0] (dr_i - dr_{i+d})
constexpr void dpfp_adjoint(Differentiator& d, int node) { feature_map_adjoint(d, node, dpfp_gradient_op); }

//   y = [1, a x_i, b x_i^2, c x_i x_j]:   dx_i = a dy_i + 2 b x_i dy_ii + c sum_{j != i} x_j dy_ij
constexpr void taylor_adjoint(Differentiator& d, int node) { feature_map_adjoint(d, node, taylor_gradient_op); }

constexpr Value feature_map_node(const Operation& op, Value x, int heads, int (*width)(int), int line) {
  Graph& g = *x.graph;
  if (heads < 1 || x.width() % heads != 0) {
    g.fail(Fault::not_divisible, x.width(), heads, line);
    return x;
  }
  const int head_width = x.width() / heads;
  const Value y = make(g, op, x.domain(), heads * width(head_width), x);
  g.nodes[y.id].attribute[feature_map::heads] = heads;
  g.nodes[y.id].attribute[feature_map::head_width] = head_width;
  return y;
}

}  // namespace ops

/// The deterministic parameter-free projection (Schlag et al. 2021, arXiv 2102.11174) as the MAD reference computes it:
/// of every head of width d, r = [relu(x), -relu(x)] (the paper has relu(-x)), and for j = 1..4 the block
/// r_i r_{(i-j) mod 2d}; x (rows, H d), result (rows, H 8 d).
constexpr Value dpfp(Value x, int heads, int line = __builtin_LINE()) {
  return ops::feature_map_node(ops::dpfp_op, x, heads, &ops::dpfp_width, line);
}

/// Features whose products are exp(q.k / sqrt(d)) to second order (Arora et al. 2024, arXiv 2402.18668): of every head
/// of width d, [1, x_i / d^(1/4), x_i^2 / sqrt(2 d), x_i x_j / sqrt(d) for i < j row by row]; x (rows, H d), result
/// (rows, H (1 + 2 d + d (d-1)/2)).
constexpr Value taylor(Value x, int heads, int line = __builtin_LINE()) {
  return ops::feature_map_node(ops::taylor_op, x, heads, &ops::taylor_width, line);
}

}  // namespace mad
