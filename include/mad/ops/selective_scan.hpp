// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective state-space recurrence of Mamba, with its gate.
#pragma once

#include <mad/graph/differentiate.hpp>
#include <mad/ops/time_step.hpp>

namespace mad {

namespace ops {

namespace selective_scan {
enum Attribute { state_size };
/// The states before every so many tokens may be kept for the gradient.
inline constexpr int segment = 8;
/// Columns of the kept states, per token: those before a sequence's segments but the first, one after the other
/// (channel by channel), fit into its rows, whatever its length.
constexpr int kept_columns(int channels, int states) {
  return ceil_divide(ceil_divide(channels * states, segment), 4) * 4;
}
}  // namespace selective_scan

constexpr void selective_scan_adjoint(Differentiator& d, int node);
/// Per channel and state: decay (exponent and product), input (two products), update (2), output (2). Per channel: the
/// skip (2), and the gate (3).
constexpr double selective_scan_flops(const Graph&, const Node& n, Index) {
  return (8.0 * n.attribute[selective_scan::state_size] + 5) * n.width;
}
constexpr Index selective_scan_state(const Graph&, const Node& n, Index) {
  return static_cast<Index>(n.width) * n.attribute[selective_scan::state_size];
}

/// Operands u, dt (tokens, I), A (one, I * N, negative), BC (tokens, 2 N), D (one, I), z (tokens, I); output (tokens,
/// I), and behind it the kept states (tokens, `kept_columns`), laid out, or left alone, as the device's gradient likes.
inline constexpr Operation selective_scan_op{.name = "selective scan",
                                             .exact_outputs = 1u << 1,
                                             .adjoint = &selective_scan_adjoint,
                                             .flops = &selective_scan_flops,
                                             .state = &selective_scan_state};
/// Operands d_out, u, dt, A, BC, D, z, kept states; outputs du, d_step, dz, dBC, dA (added), dD (added), d_step being
/// the gradient of what dt is softplus of. States between the kept ones, and y, are computed again.
inline constexpr Operation selective_scan_gradient_op{.name = "selective scan gradient", .adds = true};

//   S_t = a_t S_{t-1} + dt_t B_t u_t,  a_t = exp(dt_t A),  y_t = S_t.C_t + D u_t,  out_t = y_t silu(z_t)
//   (per channel, over N states)
//   dy_t = d_out_t silu(z_t),  dz_t = d_out_t y_t silu'(z_t),  silu'(z) = s + z s (1 - s),  s = sigmoid(z)
//   G_t = dy_t C_t + a_{t+1} G_{t+1}                       gradient of S_t
//   dC_t = dy_t S_t,  dB_t = dt_t u_t G_t,  du_t = D dy_t + dt_t (G_t.B_t),
//   d_dt_t = u_t (G_t.B_t) + sum_n G_t S_{t-1} a_t A,  dA = sum_t G_t S_{t-1} a_t dt_t,  dD = sum_t dy_t u_t
//   d_step_t = d_dt_t (1 - exp(-dt_t)), since dt_t = softplus(step_t) has the slope sigmoid(step_t) = 1 - exp(-dt_t)
constexpr void selective_scan_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const int states = n.attribute[selective_scan::state_size];
  const Value kept{&g, node + 1};
  const Value du =
      make(g, selective_scan_gradient_op, n.domain, n.width, d.adjoint(node), d.operand(node, 0), d.operand(node, 1),
           d.operand(node, 2), d.operand(node, 3), d.operand(node, 4), d.operand(node, 5), kept);
  g.nodes[du.id].attribute[selective_scan::state_size] = states;
  const Value d_step = result(du, 1, n.domain, n.width);
  const Value dz = result(du, 2, n.domain, n.width);
  const Value dBC = result(du, 3, n.domain, 2 * states);
  const Value dA = result(du, 4, Domain::one, n.width * states);
  const Value dD = result(du, 5, Domain::one, n.width);
  d.add(n.operand[0], du);
  d.add(n.operand[1], d_step);
  d.add(n.operand[2], dA);
  d.add(n.operand[3], dBC);
  d.add(n.operand[4], dD);
  d.add(n.operand[5], dz);
}

}  // namespace ops

/// Selective scan (Gu and Dao 2023, equation 2 with zero-order hold for A and the Euler step for B) times silu(z): u
/// and z (tokens, I), the time steps dt (tokens, I), A (one, I x N, channel-major, negative), BC (tokens, 2 N), B and C
/// side by side, D (one, I).
constexpr Value selective_scan(Value u, TimeStep dt, Value A, Value BC, Value D, Value z, int line = __builtin_LINE()) {
  Graph& g = *u.graph;
  const int width = u.width();
  const int states = BC.width() / 2;
  if (dt.dt.width() != width) g.fail(Fault::widths_differ, dt.dt.width(), width, line);
  if (z.width() != width) g.fail(Fault::widths_differ, z.width(), width, line);
  if (BC.width() % 2 != 0) g.fail(Fault::not_divisible, BC.width(), 2, line);
  if (A.width() != width * states) g.fail(Fault::widths_differ, A.width(), width * states, line);
  if (D.width() != width) g.fail(Fault::widths_differ, D.width(), width, line);
  if (A.domain() != Domain::one) g.fail(Fault::wrong_domain, static_cast<int>(A.domain()), 3, line);
  const Value out = ops::make(g, ops::selective_scan_op, Domain::tokens, width, u, dt.dt, A, BC, D, z);
  g.nodes[out.id].attribute[ops::selective_scan::state_size] = states;
  ops::result(out, 1, Domain::tokens, ops::selective_scan::kept_columns(width, states));
  return out;
}

}  // namespace mad
