// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The previous token: the mixing by one position of the RWKV family.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

constexpr void token_shift_adjoint(Differentiator& d, int node);
/// The last row.
constexpr Index token_shift_state(const Graph&, const Node& n, Index) { return n.width; }

/// Operand x (tokens, C); y_t = x_{t-1}, zero at the first position of each sequence.
inline constexpr Operation token_shift_op{
    .name = "token shift", .cheap = true, .adjoint = &token_shift_adjoint, .state = &token_shift_state};
/// Operand dy (tokens, C); dx_t = dy_{t+1}, zero at the last position of each sequence.
inline constexpr Operation token_shift_gradient_op{.name = "token shift gradient"};

//   y_t = x_{t-1}:   dx_t = dy_{t+1}
constexpr void token_shift_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  d.add(n.operand[0], make(*dy.graph, token_shift_gradient_op, n.domain, n.width, dy));
}

}  // namespace ops

/// x_{t-1}, zero at the first position of each sequence ("token shift", Peng et al. 2023, arXiv 2305.13048); x (tokens,
/// C).
constexpr Value token_shift(Value x, int line = __builtin_LINE()) {
  if (x.domain() != Domain::tokens) x.graph->fail(Fault::wrong_domain, static_cast<int>(x.domain()), 0, line);
  return ops::make(*x.graph, ops::token_shift_op, Domain::tokens, x.width(), x);
}

}  // namespace mad
