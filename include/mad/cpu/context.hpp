// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a kernel of the CPU gets: sizes, memory, and the node it computes.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/workspace.hpp>
#include <mad/graph/layer.hpp>

namespace mad::cpu {

/// Memory of one call of one layer. Arenas hold `Plan::columns` columns per row of their domain.
template <class T>
struct Context {
  Shape shape;
  const T* parameters = nullptr;  ///< the layer's part of the parameter arena
  const T* constants = nullptr;
  T* parameter_gradients = nullptr;
  T* arena[space_count][domain_count]{};
  T* const* prepared = nullptr;  ///< one pointer per slot
  Workspace* workspace = nullptr;

  T*& at(Space space, Domain domain = Domain::tokens) {
    return arena[static_cast<int>(space)][static_cast<int>(domain)];
  }
};

/// The memory of a value.
template <class T>
View<T> locate(const Context<T>& c, const Graph& g, const Location& l) {
  switch (l.space) {
    case Space::parameter:
      return {const_cast<T*>(c.parameters) + g.parameters[l.base].offset(c.shape.max_length) + l.column, l.stride};
    case Space::parameter_gradient:
      return {c.parameter_gradients + g.parameters[l.base].offset(c.shape.max_length) + l.column, l.stride};
    case Space::constant:
      return {const_cast<T*>(c.constants) + g.parameters[l.base].offset(c.shape.max_length) + l.column, l.stride};
    case Space::prepared:
      return {c.prepared[l.base], l.stride};
    default:
      return {c.arena[static_cast<int>(l.space)][static_cast<int>(l.domain)] + l.base * rows_of(l.domain, c.shape) +
                  l.column,
              l.stride};
  }
}

/// One node of a lowered layer on its way to a kernel: operands, outputs, sizes.
template <class Low, int Id, class T>
struct Call {
  static constexpr const Node& node = Low::graph.nodes[Id];
  const Context<T>& context;

  const Shape& shape() const { return context.shape; }
  Workspace& workspace() const { return *context.workspace; }
  /// Rows that the node has.
  Index rows() const { return rows_of(node.domain, context.shape); }

  static constexpr bool has(int k) { return k < node.operands; }
  static constexpr const Node& operand(int k) { return Low::graph.nodes[node.operand[k]]; }
  template <int K>
  View<const T> in() const {
    return locate(context, Low::graph, Low::plan.location[node.operand[K]]);
  }
  /// Output K: 0 is the node itself, K the K-th `result` behind it.
  template <int K = 0>
  View<T> out() const {
    return locate(context, Low::graph, Low::plan.location[Id + K]);
  }
  template <int K>
  static constexpr const Node& output() {
    return Low::graph.nodes[Id + K];
  }
  /// True if the operation has a K-th further output.
  template <int K>
  static constexpr bool is_result() {
    return Low::graph.nodes[Id + K].op->kind == Kind::result && Low::graph.nodes[Id + K].operand[0] == Id;
  }
  /// True if operand K is in the memory of output 0 already.
  template <int K>
  bool in_place() const {
    return in<K>().data == out<0>().data;
  }
};

/// The CPU's kernel of an operation: `template <class C> static void run(const C& call)` with a `Call`. Outputs of one
/// row per token or sequence are overwritten; sums over rows are added (the executor zeroes). A prepared operation also
/// has `template <class C> static Index size(const Shape&)`, the numbers it wants.
template <const Operation* Op>
struct Kernel {
  static_assert(Op == nullptr,
                "mad: this operation has no kernel on the CPU; specialise mad::cpu::Kernel<&operation>.");
};

}  // namespace mad::cpu
