// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A linear recurrence whose transition is a diagonal plus a matrix of rank one: the state of RWKV-7.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace ops {

namespace diagonal_plus_rank_one {
enum Attribute { heads };
}

constexpr void diagonal_plus_rank_one_adjoint(Differentiator& d, int node);
/// Per number of the state: reading under a, three products summed, reading under r; and the decay's exponentials.
constexpr double diagonal_plus_rank_one_flops(const Graph& g, const Node& n, Index) {
  const int keys = g.nodes[n.operand[0]].width;
  return 9.0 * n.width * keys / n.attribute[diagonal_plus_rank_one::heads] + keys;
}
constexpr Index diagonal_plus_rank_one_state(const Graph& g, const Node& n, Index) {
  return static_cast<Index>(n.width) * g.nodes[n.operand[0]].width / n.attribute[diagonal_plus_rank_one::heads];
}

/// Operands r, log_w, k (tokens, H dk), v (tokens, H dv), a, b (tokens, H dk); output o (tokens, H dv).
inline constexpr Operation diagonal_plus_rank_one_op{.name = "diagonal plus rank one",
                                                     .adjoint = &diagonal_plus_rank_one_adjoint,
                                                     .flops = &diagonal_plus_rank_one_flops,
                                                     .state = &diagonal_plus_rank_one_state};
/// Operands d_o, then those of the operation; outputs the gradients of those in their order. States are computed again.
inline constexpr Operation diagonal_plus_rank_one_gradient_op{.name = "diagonal plus rank one gradient"};

//   p_t = S_{t-1} a_t^T,  S_t = S_{t-1} diag(w_t) + p_t b_t + v_t^T k_t,  o_t = S_t r_t^T
//   G_t = do_t^T r_t + G_{t+1} diag(w_{t+1}) + (G_{t+1} b_{t+1}^T) a_{t+1}        gradient of S_t
//   dr_t = do_t S_t,  dk_t = v_t G_t,  dv_t = G_t k_t^T,  db_t = p_t^T G_t,
//   da_t = (G_t b_t^T)^T S_{t-1},  d log w_t = w_t * (column sums of G_t * S_{t-1})
constexpr void diagonal_plus_rank_one_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const int keys = g.nodes[n.operand[0]].width;
  const Value first =
      make(g, diagonal_plus_rank_one_gradient_op, Domain::tokens, keys, d.adjoint(node), d.operand(node, 0),
           d.operand(node, 1), d.operand(node, 2), d.operand(node, 3), d.operand(node, 4), d.operand(node, 5));
  g.nodes[first.id].attribute[diagonal_plus_rank_one::heads] = n.attribute[diagonal_plus_rank_one::heads];
  Value gradients[6]{first};
  for (int k = 1; k < 6; ++k) gradients[k] = result(first, k, Domain::tokens, g.nodes[n.operand[k]].width);
  for (int k = 0; k < 6; ++k) d.add(n.operand[k], gradients[k]);
}

}  // namespace ops

/// The recurrence of RWKV-7 (Peng et al. 2025, "RWKV-7 Goose with Expressive Dynamic State Evolution", the generalised
/// delta rule) with the two vectors of its rank-one part left free: per head, with a state S (dv, dk) that starts at
/// zero,
///
///     S_t = S_{t-1} diag(w_t) + (S_{t-1} a_t^T) b_t + v_t^T k_t,   o_t = S_t r_t^T,   w_t = exp(log_w_t)
///
/// for r, log_w (at most 0), k, a, b (tokens, H dk) and v (tokens, H dv). RWKV-7 has a = -kk and b = kk * rate for a
/// key kk of length 1.
constexpr Value diagonal_plus_rank_one(Value r, Value log_w, Value k, Value v, Value a, Value b, int heads,
                                       int line = __builtin_LINE()) {
  Graph& g = *r.graph;
  if (heads < 1) {
    g.fail(Fault::bad_option, heads, 1, line);
    return v;
  }
  if (r.width() % heads != 0) g.fail(Fault::not_divisible, r.width(), heads, line);
  if (v.width() % heads != 0) g.fail(Fault::not_divisible, v.width(), heads, line);
  for (const Value& x : {log_w, k, a, b})
    if (x.width() != r.width()) g.fail(Fault::widths_differ, x.width(), r.width(), line);
  for (const Value& x : {r, log_w, k, v, a, b})
    if (x.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(x.domain()), 0, line);
  Value o = ops::make(g, ops::diagonal_plus_rank_one_op, Domain::tokens, v.width(), r, log_w, k, v, a, b);
  g.nodes[o.id].attribute[ops::diagonal_plus_rank_one::heads] = heads;
  return o;
}

}  // namespace mad
