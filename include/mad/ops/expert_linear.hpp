// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The weighted mean of linear maps, one per expert.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

constexpr void expert_linear_adjoint(Differentiator& d, int node);
/// Multiply and add per weight, scaling the input once per expert; with a bias a multiply and add per element of it.
constexpr double expert_linear_flops(const Graph& g, const Node& n, Index) {
  const double in = g.nodes[n.operand[0]].width, experts = g.nodes[n.operand[1]].width;
  return experts * (in + 2 * in * n.width + (n.operands > 3 ? 2 * n.width : 0));
}

/// Operands x (rows, in), p (rows, E), W (one, out * E * in) and optionally b (one, out * E); output y (rows, out).
/// Row i * E + e of W is output i of expert e.
inline constexpr Operation expert_linear_op{
    .name = "expert linear", .adjoint = &expert_linear_adjoint, .flops = &expert_linear_flops};
/// Operands dy, x, p, W and, where there is one, b; outputs dx, dp, dW (added) and, with a bias, db (added).
inline constexpr Operation expert_linear_gradient_op{.name = "expert linear gradient", .adds = true};

//   y = sum_e p_e (x W_e^T + b_e):   with g_e = dy W_e
//   dx = sum_e p_e g_e,  dp_e = x . g_e + dy . b_e,  dW_e = dy^T (p_e x),  db_e = sum over rows of p_e dy
constexpr void expert_linear_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  Graph& g = *dy.graph;
  const Value x = d.operand(node, 0), p = d.operand(node, 1), weight = d.operand(node, 2);
  const bool has_bias = n.operands > 3;
  const Value bias = has_bias ? d.operand(node, 3) : weight;
  const Value dx = make(g, expert_linear_gradient_op, n.domain, x.width(), dy, x, p, weight);
  if (has_bias) g.nodes[dx.id].operand[g.nodes[dx.id].operands++] = bias.id;
  const Value dp = result(dx, 1, n.domain, p.width());
  const Value d_weight = result(dx, 2, Domain::one, weight.width());
  const Value d_bias = has_bias ? result(dx, 3, Domain::one, bias.width()) : d_weight;
  d.add(n.operand[0], dx);
  d.add(n.operand[1], dp);
  d.add(n.operand[2], d_weight);
  if (has_bias) d.add(n.operand[3], d_bias);
}

}  // namespace ops

/// sum_e p_e (x W_e^T + b_e) over experts e with weights \p p (rows, E); x (rows, in), result (rows, \p width).
/// Parameters `name.weight` (width * E, in) and, if asked for, `name.bias` (width * E); the expert is the fast index of
/// their rows. Both start uniform on [-1/sqrt(in), 1/sqrt(in)].
constexpr Value expert_linear(Value x, Value p, int width, Name name, bool with_bias = false) {
  Graph& g = *x.graph;
  if (x.domain() != p.domain() || !per_batch(x.domain()))
    g.fail(Fault::wrong_domain, static_cast<int>(p.domain()), static_cast<int>(x.domain()), name.line);
  const int experts = p.width();
  const Initial initial = Initial::uniform(1.0 / square_root(x.width()));
  Scope scope(x, name);
  const Value weight =
      parameter(x, {"weight", name.line},
                {.dims = {width * experts, x.width()}, .rank = 2, .role = Role::matrix, .initial = initial});
  if (!with_bias) return ops::make(g, ops::expert_linear_op, x.domain(), width, x, p, weight);
  const Value bias =
      parameter(x, {"bias", name.line}, {.dims = {width * experts}, .rank = 1, .role = Role::bias, .initial = initial});
  return ops::make(g, ops::expert_linear_op, x.domain(), width, x, p, weight, bias);
}

}  // namespace mad
