// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The linear recurrence with a matrix state: linear attention, gated linear attention, retention, Mamba-2, RWKV.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

/// Sizes and switches of a linear recurrence.
struct RecurrenceOptions {
  int heads = 1;            ///< H
  int key_groups = 0;       ///< G, divides H: head h reads query and key of group h / (H / G); 0: as many as heads
  double scale = 1;         ///< of the output
  bool normaliser = false;  ///< also return scale q_t . sum_{s<=t} k_s per head; without decay and bonus only
};

namespace ops {

namespace linear_recurrence {
enum Attribute {
  heads,
  key_groups,
  key_width,    ///< dk, columns of a head's query and key
  value_width,  ///< dv, columns of a head's value
  normaliser,
  decay,           ///< operand 3 is a log decay
  bonus,           ///< operand 4 is a bonus
  decay_gradient,  ///< the gradient operation has a gradient of the log decay
  bonus_gradient   ///< ... and of the bonus
};
enum Number { scale };
}  // namespace linear_recurrence

constexpr void linear_recurrence_adjoint(Differentiator& d, int node);

/// Per element of the state: decay (1), update (2), output (2). Per head: exponents of the decays, the normaliser's sum
/// and product, the bonus' three products, the scale.
constexpr double linear_recurrence_flops(const Graph& g, const Node& n, Index) {
  namespace a = linear_recurrence;
  const double heads = n.attribute[a::heads], dk = n.attribute[a::key_width], dv = n.attribute[a::value_width];
  double flops = heads * (4 * dk * dv + dv);
  if (n.attribute[a::decay] != 0) flops += heads * dk * dv + g.nodes[n.operand[3]].width;
  if (n.attribute[a::normaliser] != 0) flops += heads * (3 * dk + 1);
  if (n.attribute[a::bonus] != 0) flops += heads * (3 * dk + 2 * dv);
  return flops;
}
/// The states of all heads, and the sums of keys of the normaliser.
constexpr Index linear_recurrence_state(const Graph&, const Node& n, Index) {
  namespace a = linear_recurrence;
  const Index columns = n.attribute[a::value_width] + n.attribute[a::normaliser];
  return n.attribute[a::heads] * n.attribute[a::key_width] * columns;
}

/// Operands query, key (tokens, G dk), value (tokens, H dv), and where there are some, log decay (tokens or one, H or
/// H dk) and bonus (one, H dk); output (tokens, H dv), or (tokens, H dv + H) with the normaliser.
inline constexpr Operation linear_recurrence_op{.name = "linear recurrence",
                                                .adjoint = &linear_recurrence_adjoint,
                                                .flops = &linear_recurrence_flops,
                                                .state = &linear_recurrence_state};
/// Operands d_output, query, key, value, then log decay and bonus; outputs d_query, d_key, d_value, then those of
/// d_log_decay and d_bonus that are wanted (of one row: added). States are recomputed.
inline constexpr Operation linear_recurrence_gradient_op{.name = "linear recurrence gradient", .adds = true};

//   S_t = diag(w_t) S_{t-1} + k_t^T v_t,  w_t = exp(a_t),  o_t = scale q_t S_t            (per head)
//   G_t = scale q_t^T do_t + diag(w_{t+1}) G_{t+1}                                        gradient of S_t
//   dq_t = scale do_t S_t^T,  dk_t = v_t G_t^T,  dv_t = k_t G_t,  da_t = w_t * rowsum(G_t * S_{t-1})
// With bonus u:
//   o_t = scale q_t (S_{t-1} + diag(u) k_t^T v_t),  G_t = scale q_{t+1}^T do_{t+1} + diag(w_{t+1}) G_{t+1}
//   with c_t = scale do_t . v_t:  dq_t = scale do_t S_{t-1}^T + c_t u k_t,  dk_t = v_t G_t^T + c_t u q_t,
//   dv_t = k_t G_t + scale (q_t . u k_t) do_t,  du = sum_t c_t q_t k_t
constexpr void linear_recurrence_adjoint(Differentiator& d, int node) {
  namespace a = linear_recurrence;
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value query = d.operand(node, 0), key = d.operand(node, 1), value = d.operand(node, 2);
  const bool decay = n.attribute[a::decay] != 0, bonus = n.attribute[a::bonus] != 0;
  const Value log_decay = decay ? d.operand(node, 3) : query;
  const Value extra = bonus ? d.operand(node, 4) : query;
  const Value d_query =
      make(g, linear_recurrence_gradient_op, n.domain, query.width(), d.adjoint(node), query, key, value);
  Node& gradient = g.nodes[d_query.id];
  for (int i = 0; i < Node::max_attributes; ++i) gradient.attribute[i] = n.attribute[i];
  gradient.number[a::scale] = n.number[a::scale];
  if (decay) gradient.operand[gradient.operands++] = log_decay.id;
  if (bonus) gradient.operand[gradient.operands++] = extra.id;
  gradient.attribute[a::decay_gradient] = decay && d.wanted(n.operand[3]);
  gradient.attribute[a::bonus_gradient] = bonus && d.wanted(n.operand[4]);
  const bool wants_decay = gradient.attribute[a::decay_gradient] != 0;
  const bool wants_bonus = gradient.attribute[a::bonus_gradient] != 0;
  int results = 0;
  const Value d_key = result(d_query, ++results, n.domain, key.width());
  const Value d_value = result(d_query, ++results, n.domain, value.width());
  const Value d_decay = wants_decay ? result(d_query, ++results, log_decay.domain(), log_decay.width()) : d_query;
  const Value d_bonus = wants_bonus ? result(d_query, ++results, extra.domain(), extra.width()) : d_query;
  d.add(n.operand[0], d_query);
  d.add(n.operand[1], d_key);
  d.add(n.operand[2], d_value);
  if (wants_decay) d.add(n.operand[3], d_decay);
  if (wants_bonus) d.add(n.operand[4], d_bonus);
}

/// The node of all three forms; `log_decay` and `bonus` are null where there is none.
constexpr Value make_linear_recurrence(Value query, Value key, Value value, const Value* log_decay, const Value* bonus,
                                       RecurrenceOptions options, int line) {
  namespace a = linear_recurrence;
  Graph& g = *query.graph;
  const auto need_domain = [&](Value v, Domain wanted) {
    if (v.domain() != wanted) g.fail(Fault::wrong_domain, static_cast<int>(v.domain()), static_cast<int>(wanted), line);
  };
  const int heads = options.heads, groups = options.key_groups == 0 ? heads : options.key_groups;
  if (heads < 1) g.fail(Fault::bad_option, heads, 1, line);
  if (groups < 1) g.fail(Fault::bad_option, groups, 1, line);
  if (heads < 1 || groups < 1) return value;
  if (heads % groups != 0) g.fail(Fault::not_divisible, heads, groups, line);
  if (query.width() % groups != 0) g.fail(Fault::not_divisible, query.width(), groups, line);
  if (value.width() % heads != 0) g.fail(Fault::not_divisible, value.width(), heads, line);
  if (key.width() != query.width()) g.fail(Fault::widths_differ, key.width(), query.width(), line);
  const int key_width = query.width() / groups, value_width = value.width() / heads;
  need_domain(query, Domain::tokens);
  need_domain(key, Domain::tokens);
  need_domain(value, Domain::tokens);
  if (log_decay != nullptr) {
    if (log_decay->domain() != Domain::one) need_domain(*log_decay, Domain::tokens);
    if (log_decay->width() != heads && log_decay->width() != heads * key_width)
      g.fail(Fault::widths_differ, log_decay->width(), heads * key_width, line);
    if (log_decay->width() != heads && groups != heads) g.fail(Fault::bad_option, groups, heads, line);
  }
  if (bonus != nullptr) {
    need_domain(*bonus, Domain::one);
    if (bonus->width() != heads * key_width) g.fail(Fault::widths_differ, bonus->width(), heads * key_width, line);
    if (groups != heads) g.fail(Fault::bad_option, groups, heads, line);
  }
  if (options.normaliser && log_decay != nullptr) g.fail(Fault::bad_option, options.normaliser, 0, line);

  const int width = value.width() + (options.normaliser ? heads : 0);
  const Value y = make(g, linear_recurrence_op, Domain::tokens, width, query, key, value);
  Node& n = g.nodes[y.id];
  if (log_decay != nullptr) n.operand[n.operands++] = log_decay->id;
  if (bonus != nullptr) n.operand[n.operands++] = bonus->id;
  n.attribute[a::heads] = heads;
  n.attribute[a::key_groups] = groups;
  n.attribute[a::key_width] = key_width;
  n.attribute[a::value_width] = value_width;
  n.attribute[a::normaliser] = options.normaliser;
  n.attribute[a::decay] = log_decay != nullptr;
  n.attribute[a::bonus] = bonus != nullptr;
  n.number[a::scale] = options.scale;
  return y;
}

}  // namespace ops

/// Linear attention (Katharopoulos et al. 2020): `S_t = S_{t-1} + k_t^T v_t`, `o_t = scale q_t S_t` per head, S of
/// shape (dk, dv). query and key (tokens, G dk), value (tokens, H dv); the result (tokens, H dv). With `normaliser` it
/// has H more columns behind: `scale q_t . sum_{s<=t} k_s` of each head.
constexpr Value linear_recurrence(Value query, Value key, Value value, RecurrenceOptions options,
                                  int line = __builtin_LINE()) {
  return ops::make_linear_recurrence(query, key, value, nullptr, nullptr, options, line);
}

/// The recurrence with decay, `S_t = diag(exp(a_t)) S_{t-1} + k_t^T v_t`, `o_t = scale q_t S_t`. log_decay `a <= 0` is
/// (tokens, H), one per head and token (Mamba-2); (tokens, H dk), per key channel (gated linear attention, HGRN2);
/// (one, H), a constant per head (RetNet); or (one, H dk). Decays per key channel need G = H.
constexpr Value linear_recurrence(Value query, Value key, Value value, Value log_decay, RecurrenceOptions options,
                                  int line = __builtin_LINE()) {
  return ops::make_linear_recurrence(query, key, value, &log_decay, nullptr, options, line);
}

/// The recurrence of RWKV-5 and RWKV-6 (Peng et al. 2024): the present token is weighted by the bonus u instead of
/// entering through the state, `o_t = scale q_t (S_{t-1} + diag(u) k_t^T v_t)`, `S_t = diag(exp(a_t)) S_{t-1} + k_t^T
/// v_t`. log_decay as above, bonus (one, H dk); needs G = H.
constexpr Value linear_recurrence_with_bonus(Value query, Value key, Value value, Value log_decay, Value bonus,
                                             RecurrenceOptions options, int line = __builtin_LINE()) {
  return ops::make_linear_recurrence(query, key, value, &log_decay, &bonus, options, line);
}

}  // namespace mad
