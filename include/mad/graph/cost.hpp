// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a layer costs: parameters, floating-point operations, state. Exact, and constant expressions.
#pragma once

#include <mad/graph/graph.hpp>

namespace mad {

/// Parameters of a layer whose filters live on a grid of `max_length` positions (constants are not counted).
constexpr Index parameter_count(const Graph& g, Index max_length) {
  Index n = 0;
  for (int i = 0; i < g.parameter_count; ++i)
    if (!g.parameters[i].is_constant) n += g.parameters[i].count(max_length);
  return n;
}

/// Floating-point operations of the forward pass for one sequence of `length` tokens, divided by `length`. What is
/// computed once per batch (implicit filters) is counted once per sequence. One multiply and one add are 2.
constexpr double forward_flops_per_token(const Graph& g, Index length) {
  double total = 0;
  for (int i = 0; i < g.forward_size; ++i) {
    const Node& n = g.nodes[i];
    if (n.op->flops == nullptr) continue;
    const double rows = n.domain == Domain::one || n.domain == Domain::sequences ? 1 : static_cast<double>(length);
    total += n.op->flops(g, n, length) * rows;
  }
  return total / static_cast<double>(length);
}

/// Numbers that step-by-step inference keeps for one sequence after `length` tokens: recurrent states, keys and values
/// of attention, the last inputs of short convolutions.
constexpr Index state_size(const Graph& g, Index length) {
  Index total = 0;
  for (int i = 0; i < g.forward_size; ++i)
    if (g.nodes[i].op->state != nullptr) total += g.nodes[i].op->state(g, g.nodes[i], length);
  return total;
}

}  // namespace mad
