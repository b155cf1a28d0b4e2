// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear maps: y = x W^T + b with W of shape (out, in), and y = x W with W of shape (in, out).
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

/// Attributes of a linear node and of its gradients: 1 where the weight is stored (in, out).
namespace linear {
enum Attribute { weight_in_out };
}

constexpr void linear_adjoint(Differentiator& d, int node);

/// Multiply and add per weight, and an add per bias.
constexpr double linear_flops(const Graph& g, const Node& n, Index) {
  return 2.0 * n.width * g.nodes[n.operand[0]].width + (n.operands > 2 ? n.width : 0);
}

/// The same and another add, of the last operand.
constexpr double linear_sum_flops(const Graph& g, const Node& n, Index) {
  return 2.0 * n.width * g.nodes[n.operand[0]].width + (n.operands > 3 ? 2 : 1) * n.width;
}

/// Operands as those of a linear map, then an addend (rows, out): y = x W^T + b + addend.
inline constexpr Operation linear_sum_op{.name = "linear sum", .product = Product::forward, .flops = &linear_sum_flops};
/// Operands x (rows, in), W (one, out * in) and optionally b (one, out).
inline constexpr Operation linear_op{.name = "linear",
                                     .with_addend = &linear_sum_op,
                                     .product = Product::forward,
                                     .adjoint = &linear_adjoint,
                                     .flops = &linear_flops};
/// Operands dy (rows, out), W, optionally an addend (rows, in): dx = dy W + addend.
inline constexpr Operation linear_input_gradient_op{
    .name = "linear input gradient", .in_place = 2, .addend = 2, .product = Product::backward};
/// Operands dy (rows, out), x (rows, in): dW += dy^T x (or x^T dy).
inline constexpr Operation linear_weight_gradient_op{.name = "linear weight gradient", .adds = true};

//   y = x W^T + b:   dx = dy W,   dW = dy^T x,   db = sum over rows of dy
constexpr void linear_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  Graph& g = *dy.graph;
  const Value x{&g, n.operand[0]};
  const Value weight{&g, n.operand[1]};
  const int order = n.attribute[linear::weight_in_out];
  if (d.wanted(weight.id)) {
    const Value dW = make(g, linear_weight_gradient_op, Domain::one, weight.width(), dy, d.operand(node, 0));
    g.nodes[dW.id].attribute[linear::weight_in_out] = order;
    d.add(weight.id, dW);
  }
  if (n.operands > 2) d.add(n.operand[2], dy);
  if (d.wanted(x.id)) {
    const Value dx = make(g, linear_input_gradient_op, n.domain, x.width(), dy, d.operand(node, 1));
    g.nodes[dx.id].attribute[linear::weight_in_out] = order;
    d.add(x.id, dx);
  }
}

}  // namespace ops

/// x W^T for a weight that is already a value, flattened (out * in).
constexpr Value linear(Value x, Value weight, int line = __builtin_LINE()) {
  if (weight.width() % x.width() != 0 || weight.domain() != Domain::one)
    x.graph->fail(Fault::not_divisible, weight.width(), x.width(), line);
  return ops::make(*x.graph, ops::linear_op, x.domain(), weight.width() / x.width(), x, weight);
}

/// x W^T + b.
constexpr Value linear(Value x, Value weight, Value bias, int line = __builtin_LINE()) {
  Value y = linear(x, weight, line);
  Node& n = x.graph->nodes[y.id];
  if (bias.width() != n.width) x.graph->fail(Fault::widths_differ, bias.width(), n.width, line);
  n.operand[n.operands++] = bias.id;
  return y;
}

/// x W for a weight that is already a value, flattened (in * out): the order in which some of the reference's low-rank
/// maps are stored.
constexpr Value matmul(Value x, Value weight, int line = __builtin_LINE()) {
  const Value y = linear(x, weight, line);
  x.graph->nodes[y.id].attribute[ops::linear::weight_in_out] = 1;
  return y;
}

/// Options of a named linear map.
struct LinearOptions {
  bool bias = false;
  /// Half width of the uniform initial weights; 0 for the usual 1/sqrt(in).
  double weight_scale = 0;
  bool decay = true;
  double learning_rate = 0;
};

/// A linear map with parameters of its own: `name.weight` (width, x.width()) and, if asked for, `name.bias` (width).
/// Both start uniform on [-1/sqrt(in), 1/sqrt(in)]; the backbones then set the bias to 0.
constexpr Value linear(Value x, int width, Name name, LinearOptions options = {}) {
  const double reach = 1.0 / square_root(x.width());
  Scope scope(x, name);
  const Value weight = parameter(x, {"weight", name.line},
                                 {.dims = {width, x.width()},
                                  .rank = 2,
                                  .role = Role::matrix,
                                  .initial = Initial::uniform(options.weight_scale > 0 ? options.weight_scale : reach),
                                  .decay = options.decay,
                                  .learning_rate = options.learning_rate});
  if (!options.bias) return linear(x, weight, name.line);
  const Value bias = parameter(x, {"bias", name.line},
                               {.dims = {width},
                                .rank = 1,
                                .role = Role::bias,
                                .initial = Initial::uniform(reach),
                                .decay = options.decay,
                                .learning_rate = options.learning_rate});
  return linear(x, weight, bias, name.line);
}

}  // namespace mad
