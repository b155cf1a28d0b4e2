// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective state-space recurrence of Mamba.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

namespace selective_scan {
enum Attribute { state_size };
}

constexpr void selective_scan_adjoint(Differentiator& d, int node);
/// Per channel and state: decay (exponent and product), input (two products), update (2), output (2); and the skip.
constexpr double selective_scan_flops(const Graph&, const Node& n, Index) {
  return (8.0 * n.attribute[selective_scan::state_size] + 2) * n.width;
}
constexpr Index selective_scan_state(const Graph&, const Node& n, Index) {
  return static_cast<Index>(n.width) * n.attribute[selective_scan::state_size];
}

/// Operands u, dt (tokens, I), A (one, I * N, negative), B, C (tokens, N), D (one, I); output y (tokens, I).
inline constexpr Operation selective_scan_op{.name = "selective scan",
                                             .adjoint = &selective_scan_adjoint,
                                             .flops = &selective_scan_flops,
                                             .state = &selective_scan_state};
/// Operands dy, u, dt, A, B, C, D; outputs du, d_dt, dB, dC, dA (added), dD (added). States are recomputed.
inline constexpr Operation selective_scan_gradient_op{.name = "selective scan gradient", .adds = true};

//   S_t = a_t S_{t-1} + dt_t B_t u_t,  a_t = exp(dt_t A),  y_t = S_t.C_t + D u_t     (per channel, over N states)
//   G_t = dy_t C_t + a_{t+1} G_{t+1}                       gradient of S_t
//   dC_t = dy_t S_t,  dB_t = dt_t u_t G_t,  du_t = D dy_t + dt_t (G_t.B_t),
//   d_dt = u_t (G_t.B_t) + sum_n G_t S_{t-1} a_t A,  dA = sum_t G_t S_{t-1} a_t dt_t,  dD = sum_t dy_t u_t
constexpr void selective_scan_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const int states = n.attribute[selective_scan::state_size];
  const Value du =
      make(g, selective_scan_gradient_op, n.domain, n.width, d.adjoint(node), d.operand(node, 0), d.operand(node, 1),
           d.operand(node, 2), d.operand(node, 3), d.operand(node, 4), d.operand(node, 5));
  g.nodes[du.id].attribute[selective_scan::state_size] = states;
  const Value d_dt = result(du, 1, n.domain, n.width);
  const Value dB = result(du, 2, n.domain, states);
  const Value dC = result(du, 3, n.domain, states);
  const Value dA = result(du, 4, Domain::one, n.width * states);
  const Value dD = result(du, 5, Domain::one, n.width);
  d.add(n.operand[0], du);
  d.add(n.operand[1], d_dt);
  d.add(n.operand[2], dA);
  d.add(n.operand[3], dB);
  d.add(n.operand[4], dC);
  d.add(n.operand[5], dD);
}

}  // namespace ops

/// Selective scan (Gu and Dao 2023, equation 2 with zero-order hold for A and the Euler step for B): u and dt (tokens,
/// I), A (one, I x N, channel-major, negative), B and C (tokens, N), D (one, I).
constexpr Value selective_scan(Value u, Value dt, Value A, Value B, Value C, Value D, int line = __builtin_LINE()) {
  Graph& g = *u.graph;
  if (dt.width() != u.width()) g.fail(Fault::widths_differ, dt.width(), u.width(), line);
  if (B.width() != C.width()) g.fail(Fault::widths_differ, B.width(), C.width(), line);
  if (A.width() != u.width() * B.width()) g.fail(Fault::widths_differ, A.width(), u.width() * B.width(), line);
  if (D.width() != u.width()) g.fail(Fault::widths_differ, D.width(), u.width(), line);
  if (A.domain() != Domain::one) g.fail(Fault::wrong_domain, static_cast<int>(A.domain()), 3, line);
  Value y = ops::make(g, ops::selective_scan_op, Domain::tokens, u.width(), u, dt, A, B, C, D);
  g.nodes[y.id].attribute[ops::selective_scan::state_size] = B.width();
  return y;
}

}  // namespace mad
