// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Norms over the channels of one row: LayerNorm, RMSNorm, GroupNorm.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

/// Attributes of a norm node.
namespace norm {
enum Attribute { group_width, centred };
}

constexpr void norm_adjoint(Differentiator& d, int node);
constexpr double norm_flops(const Graph&, const Node& n, Index) { return 8.0 * n.width; }

/// Operands x (rows, C), weight (one, C or the width of a group) and optionally bias of the same width. Each group of
/// `group_width` contiguous channels is divided by its root mean square, after its mean was taken off if `centred`.
inline constexpr Operation norm_op{
    .name = "norm", .cheap = true, .row_norm = true, .adjoint = &norm_adjoint, .flops = &norm_flops};
/// Operands dy, x, weight and optionally an addend of dx; outputs dx, d_weight (added) and, if the node says so, d_bias
/// (added). Statistics are recomputed from x.
inline constexpr Operation norm_gradient_op{.name = "norm gradient", .addend = 3, .adds = true};

//   xhat = (x - mean) / sqrt(var + eps),  y = xhat w + b, over a group of n channels:
//   dw = sum dy xhat,  db = sum dy,  g = dy w,  dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps)
//   (without centring the term mean(g) is absent)
constexpr void norm_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value weight{&g, n.operand[1]};
  Value dx = make(g, norm_gradient_op, n.domain, n.width, d.adjoint(node), d.operand(node, 0), weight);
  for (int i = 0; i < Node::max_attributes; ++i) g.nodes[dx.id].attribute[i] = n.attribute[i];
  g.nodes[dx.id].number[0] = n.number[0];
  const Value d_weight = result(dx, 1, Domain::one, weight.width());
  if (n.operands > 2) {
    const Value d_bias = result(dx, 2, Domain::one, weight.width());
    d.add(n.operand[2], d_bias);
  }
  d.add(n.operand[1], d_weight);
  d.add(n.operand[0], dx);
}

constexpr Value norm_node(Value x, int group_width, bool centred, double eps, int weight_width, bool bias) {
  const Value weight = parameter(
      x, "weight",
      {.dims = {weight_width}, .rank = 1, .role = Role::norm, .initial = Initial::constant(1), .decay = false});
  Value y;
  if (bias) {
    const Value shift = parameter(
        x, "bias",
        {.dims = {weight_width}, .rank = 1, .role = Role::norm, .initial = Initial::constant(0), .decay = false});
    y = make(*x.graph, norm_op, x.domain(), x.width(), x, weight, shift);
  } else {
    y = make(*x.graph, norm_op, x.domain(), x.width(), x, weight);
  }
  Node& n = x.graph->nodes[y.id];
  n.attribute[norm::group_width] = group_width;
  n.attribute[norm::centred] = centred;
  n.number[0] = eps;
  return y;
}

}  // namespace ops

/// LayerNorm (Ba et al. 2016): (x - mean) / sqrt(var + eps) weight + bias, biased variance. Parameters `weight` and
/// `bias` under the current scope.
constexpr Value layer_norm(Value x, double eps = 1e-5) {
  return ops::norm_node(x, x.width(), true, eps, x.width(), true);
}

/// RMSNorm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + eps) weight.
constexpr Value rms_norm(Value x, double eps = 1e-5) {
  return ops::norm_node(x, x.width(), false, eps, x.width(), false);
}

/// RMSNorm of each head of `head_width` channels by itself, one weight of that width shared by all heads.
constexpr Value rms_norm_heads(Value x, int head_width, double eps = 1e-5, int line = __builtin_LINE()) {
  if (x.width() % head_width != 0) x.graph->fail(Fault::not_divisible, x.width(), head_width, line);
  return ops::norm_node(x, head_width, false, eps, head_width, false);
}

/// RMSNorm of each of `groups` contiguous groups of channels, weight per channel.
constexpr Value rms_norm_groups(Value x, int groups, double eps = 1e-5, int line = __builtin_LINE()) {
  if (x.width() % groups != 0) x.graph->fail(Fault::not_divisible, x.width(), groups, line);
  return ops::norm_node(x, x.width() / groups, false, eps, x.width(), false);
}

/// GroupNorm (Wu and He 2018) of one position: `groups` contiguous groups of channels, each standardised with its own
/// mean and variance; weight and bias per channel.
constexpr Value group_norm(Value x, int groups, double eps = 1e-5, int line = __builtin_LINE()) {
  if (x.width() % groups != 0) x.graph->fail(Fault::not_divisible, x.width(), groups, line);
  return ops::norm_node(x, x.width() / groups, true, eps, x.width(), true);
}

}  // namespace mad
