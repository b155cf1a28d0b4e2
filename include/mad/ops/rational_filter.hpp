// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Long filters as impulse responses of rational transfer functions.
#pragma once

#include <mad/graph/differentiate.hpp>

#include <bit>

namespace mad {

namespace ops {

namespace rational_filter {
enum Attribute { state_size };
}

constexpr void rational_filter_adjoint(Differentiator& d, int node);
/// The transforms of the coefficients as plain sums over half of the frequencies, and a Fourier transform (2.5 log2 n
/// per real point), both at as many points as there are positions.
constexpr double rational_filter_flops(const Graph& g, const Node& n, Index length) {
  const double levels = static_cast<double>(std::bit_width(static_cast<std::size_t>(length)));
  return 2.0 * g.nodes[n.operand[0]].width + 2.5 * levels * n.width;
}

/// Operands ab (one, (A + C) N), h_0 (one, C); output h (positions, C).
inline constexpr Operation rational_filter_op{
    .name = "rational filter", .adjoint = &rational_filter_adjoint, .flops = &rational_filter_flops};
/// Operands dh (positions, C), ab, h_0; outputs d_ab (added), d_h_0 (added).
inline constexpr Operation rational_filter_gradient_op{.name = "rational filter gradient", .adds = true};

//   h = first L samples of IDFT_M(K),  K = B / A + h_0      (per channel and frequency)
//   with G = DFT_M(dh) and P = conj(G) / A:
//   db_j = 1/M sum_k Re(P_k e^{-2 pi i j k / M}),  da_j = -1/M sum_k Re(P_k (B_k / A_k) e^{-2 pi i j k / M}),
//   summed over the channels that share a denominator;  dh_0 = dh[0]
constexpr void rational_filter_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value ab{&g, n.operand[0]};
  const Value h_0{&g, n.operand[1]};
  const Value d_ab = make(g, rational_filter_gradient_op, Domain::one, ab.width(), d.adjoint(node), ab, h_0);
  g.nodes[d_ab.id].attribute[rational_filter::state_size] = n.attribute[rational_filter::state_size];
  const Value d_h_0 = result(d_ab, 1, Domain::one, h_0.width());
  d.add(n.operand[0], d_ab);
  d.add(n.operand[1], d_h_0);
}

}  // namespace ops

/// A filter h (positions, C) by its rational transfer function (Parnichkun et al. 2024, arXiv 2405.06147):
///
///     h[c] = h_0[c] delta + (0, b_{c,1}, ..., b_{c,N}) / (1, a_{g,1}, ..., a_{g,N}),   g = floor(c A / C)
///
/// as power series, folded modulo M = max_length + (max_length mod 2). ab (one, (A + C) N) has the A denominators
/// first, then the C numerators, N coefficients each; h_0 (one, C); A divides C.
constexpr Value rational_filter(Value ab, Value h_0, int state_size, int line = __builtin_LINE()) {
  Graph& g = *ab.graph;
  const int channels = h_0.width();
  if (state_size < 1) {
    g.fail(Fault::bad_option, state_size, 1, line);
    return h_0;
  }
  if (ab.width() % state_size != 0) g.fail(Fault::not_divisible, ab.width(), state_size, line);
  const int denominators = ab.width() / state_size - channels;
  if (denominators < 1 || channels % denominators != 0) g.fail(Fault::not_divisible, channels, denominators, line);
  if (ab.domain() != Domain::one) g.fail(Fault::wrong_domain, static_cast<int>(ab.domain()), 3, line);
  if (h_0.domain() != Domain::one) g.fail(Fault::wrong_domain, static_cast<int>(h_0.domain()), 3, line);
  const Value h = ops::make(g, ops::rational_filter_op, Domain::positions, channels, ab, h_0);
  g.nodes[h.id].attribute[ops::rational_filter::state_size] = state_size;
  return h;
}

}  // namespace mad
