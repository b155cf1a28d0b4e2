// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products before and after an operation, computed by it.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

namespace planning {

/// Turns  gate * op(a * b, ...)  into the gated form of the operation, where it has one (`Operation::gated`). Neither
/// product passes through memory then on its own. It looks at the forward pass alone, before its adjoints are made: the
/// gated form brings its own.
class Gates {
public:
  constexpr explicit Gates(Graph& g) : g_(g) {
    for (int i = 0; i < g.size; ++i)
      for (int k = 0; k < g.nodes[i].operands; ++k) ++uses_[g.nodes[i].operand[k]];
    ++uses_[g.output];
  }

  constexpr void run() {
    for (int i = 0; i + 1 < g_.size; ++i)
      if (g_.nodes[i].op->gated != nullptr) take_inside(i);
  }

private:
  /// True for a product of two values that are as large as it is.
  constexpr bool is_whole_product(int id) const {
    const Node& n = g_.nodes[id];
    if (!n.op->product) return false;
    for (int k = 0; k < n.operands; ++k) {
      const Node& factor = g_.nodes[n.operand[k]];
      if (factor.domain != n.domain || factor.width != n.width) return false;
    }
    return true;
  }

  constexpr void take_inside(int id) {
    const Node n = g_.nodes[id];
    const int before = n.operand[0];
    // The gated form takes the places of the operation and of the product behind it: its outputs lie side by side.
    const int after = id + 1;
    if (uses_[before] != 1 || uses_[id] != 1 || !is_whole_product(before) || !is_whole_product(after)) return;
    const Node product = g_.nodes[after];
    const int gate = product.operand[product.operand[0] == id ? 1 : 0];
    if ((product.operand[0] != id && product.operand[1] != id) || n.operands + 2 > Node::max_operands) return;

    Node gated = n;
    gated.op = n.op->gated;
    gated.operand[0] = g_.nodes[before].operand[0];
    gated.operand[1] = g_.nodes[before].operand[1];
    for (int k = 1; k < n.operands; ++k) gated.operand[k + 1] = n.operand[k];
    gated.operand[n.operands + 1] = gate;
    gated.operands = n.operands + 2;
    g_.nodes[id] = gated;

    Node ungated;  // read by the adjoint alone
    ungated.op = &ops::result_op;
    ungated.domain = n.domain;
    ungated.width = n.width;
    ungated.operand[0] = id;
    ungated.operands = 1;
    ungated.attribute[0] = 1;
    g_.nodes[after] = ungated;

    g_.nodes[before].op = &ops::absorbed_op;
    g_.nodes[before].operands = 0;
    for (int i = after + 1; i < g_.size; ++i)
      for (int k = 0; k < g_.nodes[i].operands; ++k)
        if (g_.nodes[i].operand[k] == after) g_.nodes[i].operand[k] = id;
    if (g_.output == after) g_.output = id;
  }

  Graph& g_;
  int uses_[Graph::capacity]{};
};

}  // namespace planning

/// Takes products into the operations that have a form with gates; the forward pass is complete, nothing follows it.
constexpr void take_gates_inside(Graph& forward) { planning::Gates(forward).run(); }

}  // namespace mad
