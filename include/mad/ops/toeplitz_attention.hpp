// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention whose weights are scores times a filter of the distance, without softmax.
#pragma once

#include <mad/ops/elementwise.hpp>
#include <mad/ops/long_conv.hpp>

namespace mad {

namespace ops {

namespace toeplitz_attention {
enum Attribute { head_width };
}

constexpr void toeplitz_attention_adjoint(Differentiator& d, int node);
/// Of the quadratic form, on average over positions: two inner products per visible pair of positions and its factor.
/// (A device may use transforms instead.)
constexpr double toeplitz_attention_flops(const Graph&, const Node& n, Index length) {
  const int head = n.attribute[toeplitz_attention::head_width];
  return (static_cast<double>(length) + 1) / 2 * (4.0 * head + 1) * (n.width / head);
}
/// All earlier keys and values.
constexpr Index toeplitz_attention_state(const Graph&, const Node& n, Index length) { return 2 * length * n.width; }

/// Operands q, k, v (tokens, I), h (positions, G), skip (one, G); G heads of I / G channels.
inline constexpr Operation toeplitz_attention_op{.name = "toeplitz attention",
                                                 .adjoint = &toeplitz_attention_adjoint,
                                                 .flops = &toeplitz_attention_flops,
                                                 .state = &toeplitz_attention_state};
/// Operands dy, q, k, v, h, skip; outputs dq, dk, dv, dh (added), d_skip (added). Scores are computed again.
inline constexpr Operation toeplitz_attention_gradient_op{.name = "toeplitz attention gradient", .adds = true};

//   y_t = sum_{s<=t} w[t,s] v_s,  w[t,s] = f[t-s] a[t,s],  a[t,s] = q_t.k_s,  f = h with skip added to f[0]
//   p[t,s] = dy_t.v_s;  dv_s = sum_{t>=s} w[t,s] dy_t,  dq_t = sum_{s<=t} f[t-s] p[t,s] k_s,
//   dk_s = sum_{t>=s} f[t-s] p[t,s] q_t,  dh[j] = sum_t a[t,t-j] p[t,t-j],  d_skip = the part of one call in dh[0]
constexpr void toeplitz_attention_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value h{&g, n.operand[3]};
  const Value skip{&g, n.operand[4]};
  const Value dq = make(g, toeplitz_attention_gradient_op, n.domain, n.width, d.adjoint(node), d.operand(node, 0),
                        d.operand(node, 1), d.operand(node, 2), h, skip);
  g.nodes[dq.id].attribute[toeplitz_attention::head_width] = n.attribute[toeplitz_attention::head_width];
  const Value dk = result(dq, 1, n.domain, n.width);
  const Value dv = result(dq, 2, n.domain, n.width);
  const Value dh = result(dq, 3, Domain::positions, h.width());
  const Value d_skip = result(dq, 4, Domain::one, skip.width());
  d.add(n.operand[0], dq);
  d.add(n.operand[1], dk);
  d.add(n.operand[2], dv);
  d.add(n.operand[3], dh);
  d.add(n.operand[4], d_skip);
}

}  // namespace ops

/// Per head, y_t = sum_{s<=t} h[t-s] (q_t.k_s) v_s + skip (q_t.k_t) v_t: the long convolution of the outer products
/// k_s^T v_s, read by q_t (Massaroli et al. 2023, arXiv 2310.18780), or attention without softmax whose
/// scores are multiplied by a Toeplitz matrix. q, k, v (tokens, I), h (positions, G), skip (one, G); G divides I, head
/// g owns I / G neighbouring channels.
constexpr Value toeplitz_attention(Value q, Value k, Value v, Value h, Value skip, int line = __builtin_LINE()) {
  Graph& g = *q.graph;
  const int heads = h.width();
  if (k.width() != q.width()) g.fail(Fault::widths_differ, k.width(), q.width(), line);
  if (v.width() != q.width()) g.fail(Fault::widths_differ, v.width(), q.width(), line);
  if (q.width() % heads != 0) g.fail(Fault::not_divisible, q.width(), heads, line);
  if (skip.width() != heads) g.fail(Fault::widths_differ, skip.width(), heads, line);
  if (h.domain() != Domain::positions) g.fail(Fault::wrong_domain, static_cast<int>(h.domain()), 1, line);
  if (heads == q.width()) return q * long_conv(k * v, h, skip, line);  // heads of one channel
  const Value y = ops::make(g, ops::toeplitz_attention_op, Domain::tokens, q.width(), q, k, v, h, skip);
  g.nodes[y.id].attribute[ops::toeplitz_attention::head_width] = q.width() / heads;
  return y;
}

}  // namespace mad
