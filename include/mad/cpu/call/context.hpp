// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a kernel of the CPU gets: sizes, memory, and the node it computes.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/graph/layer.hpp>

#include <array>
#include <cstddef>

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
  [[gnu::noinline]] Index rows(Domain domain) const {
    return domain == Domain::positions ? position_rows : rows_of(domain, shape);
  }
};

/// Where a value of a layer lies, as plain data: what differs from layer to layer is read, not compiled again.
struct Place {
  Location location;
  Index fixed = 0;           ///< of a parameter: its offset in the arena,
  Index per_max_length = 0;  ///< and what is added to it per row of the grid

  constexpr Place() = default;
  constexpr Place(const Graph& graph, const Plan& plan, int id) : location(plan.location[id]) {
    if (location.space != Space::parameter && location.space != Space::parameter_gradient &&
        location.space != Space::constant)
      return;
    fixed = graph.parameters[location.base].offset_fixed;
    per_max_length = graph.parameters[location.base].offset_per_max;
  }
};

/// The memory of a value.
template <class T>
[[gnu::noinline]] View<T> locate(const Context<T>& c, const Place& place) {
  const Location& l = place.location;
  T* data;
  switch (l.space) {
    case Space::parameter:
      data = const_cast<T*>(c.parameters) + place.fixed + place.per_max_length * c.grid;
      break;
    case Space::constant:
      data = const_cast<T*>(c.constants) + place.fixed + place.per_max_length * c.grid;
      break;
    case Space::parameter_gradient:
      data = c.parameter_gradients + place.fixed + place.per_max_length * c.grid;
      break;
    case Space::prepared:
      data = c.prepared[l.base];
      break;
    default:
      data = c.arena[static_cast<int>(l.space)][static_cast<int>(l.domain)] + l.base * c.rows(l.domain);
  }
  data += l.column;
  // Hides from the compiler where the pointer comes from: knowing it, g++ 12 takes some functions that store through it
  // for free of effects and drops their calls.
  asm("" : "+r"(data));
  return {data, l.stride};
}

/// The memory that a kernel works on: the same code for all nodes of all layers.
template <class T>
struct Operands {
  const Context<T>& context;
  const Place* inputs;
  const Place* outputs;

  const Shape& shape() const { return context.shape; }
  Workspace& workspace() const { return *context.workspace; }
  Index rows(Domain domain) const { return context.rows(domain); }
  View<const T> input(int k) const { return locate(context, inputs[k]); }
  View<T> output(int k) const { return locate(context, outputs[k]); }
  template <int K>
  View<const T> in() const {
    return locate(context, inputs[K]);
  }
  /// Output K: 0 is the node itself, K the K-th `result` behind it.
  template <int K = 0>
  View<T> out() const {
    return locate(context, outputs[K]);
  }
  /// True if operand K is in the memory of output 0 already.
  template <int K>
  bool in_place() const {
    return in<K>().data == out<0>().data;
  }
};

/// One node of a lowered layer on its way to a kernel: operands, outputs, sizes.
template <class Low, int Id, class T>
struct Call : Operands<T> {
  static constexpr const Node& node = Low::graph.nodes[Id];

  Call(const Context<T>& memory) : Operands<T>{memory, places.data(), places.data() + node.operands} {}

  using Operands<T>::rows;
  /// Rows that the node has.
  Index rows() const { return this->context.rows(node.domain); }

  static constexpr bool has(int k) { return k < node.operands; }
  static constexpr const Node& operand(int k) { return Low::graph.nodes[node.operand[k]]; }
  template <int K>
  static constexpr const Node& output() {
    return Low::graph.nodes[Id + K];
  }
  /// True if the operation has a K-th further output.
  template <int K>
  static constexpr bool is_result() {
    return has_result(Low::graph, Id, K);
  }

private:
  static constexpr auto places = [] {
    constexpr int outputs = output_count(Low::graph, Id);
    std::array<Place, static_cast<std::size_t>(node.operands + outputs)> result;
    std::size_t next = 0;
    for (int k = 0; k < node.operands; ++k) result[next++] = Place(Low::graph, Low::plan, node.operand[k]);
    for (int k = 0; k < outputs; ++k) result[next++] = Place(Low::graph, Low::plan, Id + k);
    return result;
  }();
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
