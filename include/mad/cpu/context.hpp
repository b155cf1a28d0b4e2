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
  /// A call for whole sequences, from their first token on.
  explicit Context(const Shape& sizes) : shape(sizes), position_rows(sizes.length), grid(sizes.max_length) {}

  Shape shape;
  Index past = 0;       ///< tokens of each sequence that earlier calls were given; this call's positions follow them
  Index position_rows;  ///< rows in memory of a value that has one per position
  Index grid;           ///< rows of a parameter that has one per position
  const T* parameters = nullptr;  ///< the layer's part of the parameter arena
  const T* constants = nullptr;
  T* parameter_gradients = nullptr;
  T* arena[space_count][domain_count]{};
  T* const* prepared = nullptr;  ///< one pointer per slot
  Workspace* workspace = nullptr;

  T*& at(Space space, Domain domain = Domain::tokens) {
    return arena[static_cast<int>(space)][static_cast<int>(domain)];
  }
  /// Rows in memory of a value of the domain.
  Index rows(Domain domain) const { return domain == Domain::positions ? position_rows : rows_of(domain, shape); }
};

/// The memory of a lowered layer's value.
template <class Low, int Id, class T>
View<T> locate(const Context<T>& c) {
  constexpr Location l = Low::plan.location[Id];
  T* data;
  if constexpr (l.space == Space::parameter || l.space == Space::parameter_gradient || l.space == Space::constant) {
    constexpr Index fixed = Low::graph.parameters[l.base].offset_fixed + l.column;
    constexpr Index per_max_length = Low::graph.parameters[l.base].offset_per_max;
    T* base = l.space == Space::parameter_gradient
                  ? c.parameter_gradients
                  : const_cast<T*>(l.space == Space::parameter ? c.parameters : c.constants);
    data = base + fixed + per_max_length * c.grid;
  } else if constexpr (l.space == Space::prepared) {
    data = c.prepared[l.base];
  } else {
    data = c.arena[static_cast<int>(l.space)][static_cast<int>(l.domain)] + l.base * c.rows(l.domain) + l.column;
  }
  // Hides from the compiler where the pointer comes from: knowing it, g++ 12 takes some functions that store through it
  // for free of effects and drops their calls.
  asm("" : "+r"(data));
  return {data, l.stride};
}

/// One node of a lowered layer on its way to a kernel: operands, outputs, sizes.
template <class Low, int Id, class T>
struct Call {
  static constexpr const Node& node = Low::graph.nodes[Id];
  const Context<T>& context;

  const Shape& shape() const { return context.shape; }
  Workspace& workspace() const { return *context.workspace; }
  /// Rows that the node has.
  Index rows() const { return context.rows(node.domain); }

  static constexpr bool has(int k) { return k < node.operands; }
  static constexpr const Node& operand(int k) { return Low::graph.nodes[node.operand[k]]; }
  template <int K>
  View<const T> in() const {
    return locate<Low, Low::graph.nodes[Id].operand[K]>(context);
  }
  /// Output K: 0 is the node itself, K the K-th `result` behind it.
  template <int K = 0>
  View<T> out() const {
    return locate<Low, Id + K>(context);
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
/// has `template <class C, class T> static Index size(const Shape&)`, the numbers of type T it wants.
///
/// The kernel of an operation that looks at other tokens, or works otherwise on few rows, also has, for step-by-step
/// inference (cpu/step_block.hpp),
///
///     template <class C, class T> static Index step_state(const Shape& shape);
///     template <class C, class T> static void step(const C& call, Index position, T* state);
///
/// where `step` is given one token of each of `shape.batch` sequences, all at the same position, and `state` is what it
/// may keep from one token to the next: `step_state` numbers for all sequences together, zero before position 0, for
/// sequences of up to `shape.max_length` tokens. A step must not read prepared operands: they are not computed for it.
template <const Operation* Op>
struct Kernel {
  static_assert(Op == nullptr,
                "mad: this operation has no kernel on the CPU; specialise mad::cpu::Kernel<&operation>.");
};

}  // namespace mad::cpu
