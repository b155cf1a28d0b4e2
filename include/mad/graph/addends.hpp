// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums that an operation can make along with its own work: total + v becomes v with the total as its addend.
#pragma once

#include <mad/graph/differentiate.hpp>
#include <mad/graph/graph.hpp>

namespace mad {

/// Gives operations that can add a value what is added to their results: sums of gradients, and a residual's. It comes
/// after reverse mode: while adjoints are being made, a contribution may still be given to another node, and the sum's
/// own adjoint knows nothing of it.
class AddendAbsorber {
public:
  constexpr explicit AddendAbsorber(Graph& graph) : graph_(graph) {
    for (int i = 0; i < graph.size; ++i) {
      if (graph.nodes[i].op->kind == Kind::result) continue;
      for (int k = 0; k < graph.nodes[i].operands; ++k) ++uses_[graph.nodes[i].operand[k]];
    }
    ++uses_[graph.output];
    if (graph.input_gradient >= 0) ++uses_[graph.input_gradient];
  }

  constexpr void run() {
    for (int i = 0; i < graph_.size; ++i)
      if (graph_.nodes[i].op == &ops::add_op && !absorb(i, 1)) absorb(i, 0);
  }

private:
  /// Merges sum i into the node of its operand k, if that can add the other operand and nobody else reads it.
  constexpr bool absorb(int i, int k) {
    const int v = graph_.nodes[i].operand[k];
    const int total = graph_.nodes[i].operand[1 - k];
    const bool at_v = has_result(graph_, v, 1);  // these have their places behind it
    if (uses_[v] != 1 || is_exact(graph_.nodes, total) || !takes_addend(graph_.nodes[v], graph_.nodes[total]) ||
        (at_v && total > v))
      return false;
    Node merged = graph_.nodes[v];
    if (merged.op->with_addend != nullptr) merged.op = merged.op->with_addend;
    merged.operand[merged.operands++] = total;
    graph_.nodes[at_v ? v : i] = merged;
    graph_.nodes[at_v ? i : v] = gone(merged);
    if (at_v) replace(i, v);
    return true;
  }

  static constexpr bool takes_addend(const Node& n, const Node& addend) {
    const bool can = n.op->addend == n.operands || n.op->with_addend != nullptr;
    return can && n.operands < Node::max_operands && addend.domain == n.domain && addend.width == n.width;
  }

  /// Stands where a node was that is computed no more.
  static constexpr Node gone(const Node& n) {
    Node leaf;
    leaf.op = &ops::absorbed_op;
    leaf.domain = n.domain;
    leaf.width = n.width;
    return leaf;
  }

  /// Has everyone who reads `from` read `to`.
  constexpr void replace(int from, int to) {
    for (int i = from + 1; i < graph_.size; ++i)
      for (int k = 0; k < graph_.nodes[i].operands; ++k)
        if (graph_.nodes[i].operand[k] == from) graph_.nodes[i].operand[k] = to;
    if (graph_.input_gradient == from) graph_.input_gradient = to;
    if (graph_.output == from) graph_.output = to;
  }

  Graph& graph_;
  int uses_[Graph::capacity]{};
};

}  // namespace mad
