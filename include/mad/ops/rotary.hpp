// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rotary positions as an operation of its own; attention has them built in.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

/// What `rotary` turns and how.
struct RotaryOptions {
  int dims = 0;              ///< rotated channels of every head, even; 0: all of them
  double base = 10000;       ///< pair j turns by position * base^(-2j/dims)
  bool interleaved = false;  ///< rotate neighbouring pairs (2j, 2j+1) instead of (j, j + dims/2)
};

namespace ops {

/// Attributes of a rotary node; its number 0 is the base.
namespace rotary {
enum Attribute { heads, dims, interleaved, backward };
}

constexpr void rotary_adjoint(Differentiator& d, int node);
/// Four products and two sums per pair.
constexpr double rotary_flops(const Graph&, const Node& n, Index) {
  return 3.0 * n.attribute[rotary::heads] * n.attribute[rotary::dims];
}

/// Operand x (tokens, C): every head turned by its position, or against it where the node says `backward`.
inline constexpr Operation rotary_op{
    .name = "rotary", .cheap = true, .in_place = 0, .adjoint = &rotary_adjoint, .flops = &rotary_flops};

//   y = R x with a rotation R:   dx = R^T dy, the rotation by the opposite angle
constexpr void rotary_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  const Value dx = make(*dy.graph, rotary_op, n.domain, n.width, dy);
  Node& turned = dy.graph->nodes[dx.id];
  for (int i = 0; i < Node::max_attributes; ++i) turned.attribute[i] = n.attribute[i];
  turned.attribute[rotary::backward] = 1 - n.attribute[rotary::backward];
  turned.number[0] = n.number[0];
  d.add(n.operand[0], dx);
}

}  // namespace ops

/// x with every head turned by its token's position in the sequence, counted from 0 (Su et al. 2021, arXiv 2104.09864);
/// x (tokens, C), C a multiple of \p heads.
constexpr Value rotary(Value x, int heads, RotaryOptions options = {}, int line = __builtin_LINE()) {
  Graph& g = *x.graph;
  if (x.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(x.domain()), 0, line);
  if (heads < 1 || x.width() % heads != 0) {
    g.fail(Fault::not_divisible, x.width(), heads, line);
    return x;
  }
  const int head_width = x.width() / heads;
  const int dims = options.dims == 0 ? head_width : options.dims;
  if (dims < 0 || dims > head_width) g.fail(Fault::bad_option, dims, head_width, line);
  if (dims % 2 != 0) g.fail(Fault::not_divisible, dims, 2, line);
  const Value y = ops::make(g, ops::rotary_op, Domain::tokens, x.width(), x);
  Node& n = g.nodes[y.id];
  n.attribute[ops::rotary::heads] = heads;
  n.attribute[ops::rotary::dims] = dims;
  n.attribute[ops::rotary::interleaved] = options.interleaved;
  n.number[0] = options.base;
  return y;
}

}  // namespace mad
