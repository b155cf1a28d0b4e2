// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal softmax attention with rotary positions, sliding window and grouped key/value heads.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

/// Sizes of an attention operation.
struct AttentionSpec {
  int heads = 1;
  int kv_heads = 1;          ///< divides heads; query head h uses key/value head h / (heads / kv_heads)
  int window = -1;           ///< a query sees `window` keys before its own; -1: all
  int rotary = 0;            ///< rotated dimensions of each head, even; 0: none
  bool interleaved = false;  ///< rotate neighbours (2j, 2j+1) instead of halves (j, j + rotary/2)
  double rotary_base = 10000;
  double scale = 0;  ///< of the scores; 0: 1/sqrt(head width)
};

namespace ops {

namespace attention {
enum Attribute { heads, kv_heads, window, rotary, interleaved };
enum Number { rotary_base, scale };
}  // namespace attention

constexpr void attention_adjoint(Differentiator& d, int node);

/// Keys that an average query sees, causal and within the window.
constexpr double mean_keys(int window, Index length) {
  const auto l = static_cast<double>(length);
  if (window < 0 || window + 1 >= length) return (l + 1) / 2;
  const double w = window + 1;
  return (w * (w + 1) / 2 + (l - w) * w) / l;
}
/// Scores and weighted sum over the visible keys (2 + 2 per head dimension), 5 for the softmax of a score.
constexpr double attention_flops(const Graph&, const Node& n, Index length) {
  return (4.0 * n.width + 5.0 * n.attribute[attention::heads]) * mean_keys(n.attribute[attention::window], length);
}
/// Keys and values of the visible positions.
constexpr Index attention_state(const Graph& g, const Node& n, Index length) {
  const Index window = n.attribute[attention::window];
  const Index kept = window >= 0 && window + 1 < length ? window + 1 : length;
  return 2 * kept * g.nodes[n.operand[1]].width;
}

/// Operands query (tokens, heads d), key and value (tokens, kv_heads d); outputs the mixed values (tokens, heads d) and
/// the log-sum-exp of the scores (tokens, heads).
inline constexpr Operation attention_op{.name = "attention",
                                        .exact_outputs = 1u << 1,
                                        .adjoint = &attention_adjoint,
                                        .flops = &attention_flops,
                                        .state = &attention_state};
/// Operands query, key, value, output, log-sum-exp, d_output; outputs d_query, d_key, d_value.
inline constexpr Operation attention_gradient_op{.name = "attention gradient"};

//   p[t,s] = exp(scale q_t.k_s - lse_t),  o_t = sum_s p[t,s] v_s  (q and k rotated)
//   dv_s = sum_t p[t,s] do_t,   dp[t,s] = do_t.v_s,   ds[t,s] = p[t,s] (dp[t,s] - do_t.o_t)
//   dq_t = scale sum_s ds[t,s] k_s,   dk_s = scale sum_t ds[t,s] q_t   (rotated back)
constexpr void attention_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dy = d.adjoint(node);
  Graph& g = *dy.graph;
  const Value out{&g, node};
  const Value lse{&g, node + 1};
  const Value d_query = make(g, attention_gradient_op, n.domain, n.width, d.operand(node, 0), d.operand(node, 1),
                             d.operand(node, 2), out, lse, dy);
  for (int i = 0; i < Node::max_attributes; ++i) g.nodes[d_query.id].attribute[i] = n.attribute[i];
  for (int i = 0; i < 2; ++i) g.nodes[d_query.id].number[i] = n.number[i];
  const Value d_key = result(d_query, 1, n.domain, g.nodes[n.operand[1]].width);
  const Value d_value = result(d_query, 2, n.domain, g.nodes[n.operand[2]].width);
  d.add(n.operand[0], d_query);
  d.add(n.operand[1], d_key);
  d.add(n.operand[2], d_value);
}

}  // namespace ops

/// Causal attention over the tokens of each sequence (Vaswani et al. 2017; rotary positions: Su et al. 2021; grouped
/// heads: Ainslie et al. 2023). query has heads x d columns, key and value kv_heads x d.
constexpr Value attention(Value query, Value key, Value value, AttentionSpec spec, int line = __builtin_LINE()) {
  Graph& g = *query.graph;
  if (spec.heads < 1 || query.width() % spec.heads != 0) {
    g.fail(Fault::not_divisible, query.width(), spec.heads, line);
    return query;
  }
  const int head_width = query.width() / spec.heads;
  if (spec.kv_heads < 1 || spec.heads % spec.kv_heads != 0)
    g.fail(Fault::not_divisible, spec.heads, spec.kv_heads, line);
  if (key.width() != spec.kv_heads * head_width)
    g.fail(Fault::widths_differ, key.width(), spec.kv_heads * head_width, line);
  if (value.width() != key.width()) g.fail(Fault::widths_differ, value.width(), key.width(), line);
  if (spec.rotary < 0 || spec.rotary > head_width) g.fail(Fault::bad_option, spec.rotary, head_width, line);
  if (spec.rotary % 2 != 0) g.fail(Fault::not_divisible, spec.rotary, 2, line);
  if (spec.window < -1) g.fail(Fault::bad_option, spec.window, -1, line);
  if (query.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(query.domain()), 0, line);
  Value y = ops::make(g, ops::attention_op, Domain::tokens, query.width(), query, key, value);
  Node& n = g.nodes[y.id];
  n.attribute[ops::attention::heads] = spec.heads;
  n.attribute[ops::attention::kv_heads] = spec.kv_heads;
  n.attribute[ops::attention::window] = spec.window;
  n.attribute[ops::attention::rotary] = spec.rotary;
  n.attribute[ops::attention::interleaved] = spec.interleaved;
  n.number[ops::attention::rotary_base] = spec.rotary_base;
  n.number[ops::attention::scale] = spec.scale > 0 ? spec.scale : 1.0 / square_root(head_width);
  ops::result(y, 1, Domain::tokens, spec.heads);
  return y;
}

}  // namespace mad
