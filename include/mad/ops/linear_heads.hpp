// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One linear map that all heads share.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

/// Attributes of a node of shared maps and of its gradients: heads, and the widths of one head.
namespace linear_heads {
enum Attribute { heads, in, out };
}

constexpr void linear_heads_adjoint(Differentiator& d, int node);
/// Multiply and add per weight and head, and an add per bias and head.
constexpr double linear_heads_flops(const Graph&, const Node& n, Index) {
  return (2.0 * n.attribute[linear_heads::in] + (n.operands > 2 ? 1 : 0)) * n.width;
}

/// Operands x (rows, H * in), W (one, out * in) and optionally b (one, out); output y (rows, H * out).
inline constexpr Operation linear_heads_op{
    .name = "linear heads", .adjoint = &linear_heads_adjoint, .flops = &linear_heads_flops};
/// Operands dy (rows, H * out), W, optionally an addend (rows, H * in): dx = dy W per head, + addend.
inline constexpr Operation linear_heads_input_gradient_op{
    .name = "linear heads input gradient", .in_place = 2, .addend = 2};
/// Operands dy (rows, H * out), x (rows, H * in): dW += dy^T x, summed over heads.
inline constexpr Operation linear_heads_weight_gradient_op{.name = "linear heads weight gradient", .adds = true};

//   y_h = x_h W^T + b:   dx_h = dy_h W,   dW = sum over heads of dy_h^T x_h,   db = sum over rows and heads of dy_h
constexpr void linear_heads_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  Graph& g = *dy.graph;
  const auto with_sizes = [&](Value v) {
    for (int i = 0; i < Node::max_attributes; ++i) g.nodes[v.id].attribute[i] = n.attribute[i];
    return v;
  };
  const Value x{&g, n.operand[0]};
  const Value weight{&g, n.operand[1]};
  if (d.wanted(weight.id))
    d.add(weight.id,
          with_sizes(make(g, linear_heads_weight_gradient_op, Domain::one, weight.width(), dy, d.operand(node, 0))));
  if (n.operands > 2) d.add(n.operand[2], dy);
  if (d.wanted(x.id))
    d.add(x.id, with_sizes(make(g, linear_heads_input_gradient_op, n.domain, x.width(), dy, d.operand(node, 1))));
}

/// The identity, as far as the matrix is square.
inline void fill_identity(const Parameter& p, Index, const Initial::Source&, double* values) {
  for (Index i = 0; i < p.dims[0]; ++i)
    for (Index j = 0; j < p.dims[1]; ++j) values[i * p.dims[1] + j] = i == j ? 1 : 0;
}

}  // namespace ops

/// x_h W^T of every head h; x (rows, H * in), W (one, out * in), result (rows, H * out).
constexpr Value linear_heads(Value x, int heads, Value weight, int line = __builtin_LINE()) {
  Graph& g = *x.graph;
  if (heads < 1 || x.width() % heads != 0) {
    g.fail(Fault::not_divisible, x.width(), heads, line);
    return x;
  }
  const int in = x.width() / heads;
  if (weight.width() % in != 0 || weight.domain() != Domain::one)
    g.fail(Fault::not_divisible, weight.width(), in, line);
  const int out = weight.width() / in;
  const Value y = ops::make(g, ops::linear_heads_op, x.domain(), heads * out, x, weight);
  Node& n = g.nodes[y.id];
  n.attribute[ops::linear_heads::heads] = heads;
  n.attribute[ops::linear_heads::in] = in;
  n.attribute[ops::linear_heads::out] = out;
  return y;
}

/// x_h W^T + b of every head h.
constexpr Value linear_heads(Value x, int heads, Value weight, Value bias, int line = __builtin_LINE()) {
  const Value y = linear_heads(x, heads, weight, line);
  Node& n = x.graph->nodes[y.id];
  if (bias.width() * heads != n.width) x.graph->fail(Fault::widths_differ, bias.width() * heads, n.width, line);
  n.operand[n.operands++] = bias.id;
  return y;
}

/// The weight and bias of a map shared by heads, made once and applied as often as wanted.
struct HeadMap {
  Value weight;
  Value bias;  ///< no value where the map has none
  constexpr Value operator()(Value x, int heads, int line = __builtin_LINE()) const {
    return bias.graph == nullptr ? linear_heads(x, heads, weight, line) : linear_heads(x, heads, weight, bias, line);
  }
};

/// Options of a named map shared by heads.
struct HeadMapOptions {
  bool bias = false;
  /// Start at the identity and a bias of 0 instead of the uniform numbers of a linear map.
  bool identity = false;
};

/// A map from \p in to \p out channels of a head, with parameters `name.weight` (out, in) and, if asked for,
/// `name.bias` (out); \p x is any value of the layer. Both start uniform on [-1/sqrt(in), 1/sqrt(in)].
constexpr HeadMap head_map(Value x, int in, int out, Name name, HeadMapOptions options = {}) {
  const Initial uniform = Initial::uniform(1.0 / square_root(in));
  Scope scope(x, name);
  HeadMap map;
  map.weight = parameter(
      x, {"weight", name.line},
      {.dims = {out, in},
       .rank = 2,
       .role = Role::matrix,
       .initial = options.identity ? Initial{.kind = Initial::Kind::filled, .fill = &ops::fill_identity} : uniform});
  if (options.bias)
    map.bias = parameter(
        x, {"bias", name.line},
        {.dims = {out}, .rank = 1, .role = Role::bias, .initial = options.identity ? Initial::constant(0) : uniform});
  return map;
}

}  // namespace mad
