// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The delta rule: linear attention that replaces what it stored under a key instead of adding to it.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

/// Heads and scale of a delta rule.
struct DeltaRuleOptions {
  int heads = 1;      ///< H, heads of value, beta and log_decay
  int key_heads = 0;  ///< Hk, heads of query and key; 0: as many as value heads
  double scale = 0;   ///< of the output; 0: dk^(-1/2)
};

namespace ops {

namespace delta_rule {
enum Attribute { heads, key_heads };
enum Number { scale };

/// dk, the width of a key.
constexpr int key_width(const Graph& g, const Node& n) { return g.nodes[n.operand[0]].width / n.attribute[key_heads]; }
}  // namespace delta_rule

constexpr void delta_rule_adjoint(Differentiator& d, int node);
/// Per number of the state: reading, writing and the query's reading, a multiply and an add each; and the decay.
constexpr double delta_rule_flops(const Graph& g, const Node& n, Index) {
  return (n.operands > 4 ? 7.0 : 6.0) * n.width * delta_rule::key_width(g, n);
}
constexpr Index delta_rule_state(const Graph& g, const Node& n, Index) {
  return static_cast<Index>(n.width) * delta_rule::key_width(g, n);
}

/// Operands query, key (tokens, Hk dk), value (tokens, H dv), beta (tokens, H) and optionally log_decay (tokens, H);
/// output (tokens, H dv).
inline constexpr Operation delta_rule_op{
    .name = "delta rule", .adjoint = &delta_rule_adjoint, .flops = &delta_rule_flops, .state = &delta_rule_state};
/// Operands d_output, then those of the operation; outputs the gradients of those in their order. States are computed
/// again.
inline constexpr Operation delta_rule_gradient_op{.name = "delta rule gradient"};

//   S' = exp(g_t) S_{t-1},  e_t = v_t - k_t S',  S_t = S' + beta_t k_t^T e_t,  o_t = c q_t S_t
//   G_t = c q_t^T do_t + exp(g_{t+1}) (G_{t+1} - k_{t+1}^T dv_{t+1})              gradient of S_t
//   dv_t = beta_t k_t G_t,  dbeta_t = e_t.(k_t G_t),  dq_t = c do_t S_t^T,
//   dk_t = beta_t e_t G_t^T - dv_t S'^T,  dg_t = sum of S' * (G_t - k_t^T dv_t)
constexpr void delta_rule_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  Node gradient;
  gradient.op = &delta_rule_gradient_op;
  gradient.domain = Domain::tokens;
  gradient.width = g.nodes[n.operand[0]].width;
  gradient.operand[gradient.operands++] = d.adjoint(node).id;
  for (int k = 0; k < n.operands; ++k) gradient.operand[gradient.operands++] = d.operand(node, k).id;
  for (int i = 0; i < Node::max_attributes; ++i) gradient.attribute[i] = n.attribute[i];
  gradient.number[delta_rule::scale] = n.number[delta_rule::scale];
  const Value first{&g, g.append(gradient)};
  Value gradients[5]{first};
  for (int k = 1; k < n.operands; ++k) gradients[k] = result(first, k, Domain::tokens, g.nodes[n.operand[k]].width);
  for (int k = 0; k < n.operands; ++k) d.add(n.operand[k], gradients[k]);
}

}  // namespace ops

/// The delta rule (Schlag et al. 2021; Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over
/// Sequence Length", equation 1): per head, with a state S (dk, dv) that starts at zero,
///
///     S_t = S_{t-1} + beta_t k_t^T (v_t - k_t S_{t-1}),   o_t = scale q_t S_t
///
/// for query and key (tokens, Hk dk), value (tokens, H dv), beta (tokens, H). Value head h uses query and key of head
/// floor(h Hk / H). Keys should have length 1: the state then stays bounded for beta in [0, 2].
constexpr Value delta_rule(Value query, Value key, Value value, Value beta, DeltaRuleOptions options,
                           int line = __builtin_LINE()) {
  Graph& g = *query.graph;
  const int heads = options.heads;
  const int key_heads = options.key_heads == 0 ? heads : options.key_heads;
  if (heads < 1 || key_heads < 1) {
    g.fail(Fault::bad_option, heads < 1 ? heads : key_heads, 1, line);
    return value;
  }
  if (heads % key_heads != 0) g.fail(Fault::not_divisible, heads, key_heads, line);
  if (value.width() % heads != 0) g.fail(Fault::not_divisible, value.width(), heads, line);
  if (query.width() % key_heads != 0) g.fail(Fault::not_divisible, query.width(), key_heads, line);
  if (key.width() != query.width()) g.fail(Fault::widths_differ, key.width(), query.width(), line);
  if (beta.width() != heads) g.fail(Fault::widths_differ, beta.width(), heads, line);
  for (const Value& v : {query, key, value, beta})
    if (v.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(v.domain()), 0, line);
  Value y = ops::make(g, ops::delta_rule_op, Domain::tokens, value.width(), query, key, value, beta);
  Node& n = g.nodes[y.id];
  n.attribute[ops::delta_rule::heads] = heads;
  n.attribute[ops::delta_rule::key_heads] = key_heads;
  n.number[ops::delta_rule::scale] = options.scale != 0 ? options.scale : 1 / square_root(query.width() / key_heads);
  return y;
}

/// The gated delta rule (Yang, Kautz and Hatamizadeh 2024, equation 10): the state decays by exp(log_decay_t), one
/// number (at most 0) per token and value head, before it is read and written:
///
///     S' = exp(g_t) S_{t-1},   S_t = S' + beta_t k_t^T (v_t - k_t S'),   o_t = scale q_t S_t
constexpr Value delta_rule(Value query, Value key, Value value, Value beta, Value log_decay, DeltaRuleOptions options,
                           int line = __builtin_LINE()) {
  Value y = delta_rule(query, key, value, beta, options, line);
  Graph& g = *y.graph;
  if (log_decay.width() != beta.width()) g.fail(Fault::widths_differ, log_decay.width(), beta.width(), line);
  if (log_decay.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(log_decay.domain()), 0, line);
  Node& n = g.nodes[y.id];
  if (n.op == &ops::delta_rule_op) n.operand[n.operands++] = log_decay.id;
  return y;
}

}  // namespace mad
