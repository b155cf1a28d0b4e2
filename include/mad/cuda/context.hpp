// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a kernel of the device gets: sizes, memory, the queue, and the node it computes.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/arena_layout.hpp>
#include <mad/cuda/layout.hpp>
#include <mad/cuda/queue.hpp>

namespace mad::cuda {

/// Memory of one call of one layer, on the device.
template <class P>
struct Context {
  using Activation = typename P::Activation;

  Shape shape;
  const float* parameters = nullptr;    ///< the layer's part of the parameter arena
  const Activation* factors = nullptr;  ///< the same, rounded to the type that matrix products take
  const float* constants = nullptr;
  float* parameter_gradients = nullptr;
  std::byte* arena[space_count][domain_count]{};
  std::byte* const* prepared = nullptr;  ///< one pointer per slot, on the host
  Queue* queue = nullptr;

  std::byte*& at(Space space, Domain domain = Domain::tokens) {
    return arena[static_cast<int>(space)][static_cast<int>(domain)];
  }
};

namespace context_detail {

template <class Low, int Id>
Index parameter_offset(const Shape& shape) {
  constexpr Location l = Low::plan.location[Id];
  if constexpr (l.space == Space::constant)
    return Low::parameters.parameters[l.base].offset(shape.max_length) + l.column;
  else
    return aligned_offset(Low::parameters.parameters, l.base, shape.max_length) + l.column;
}

}  // namespace context_detail

/// The memory of a lowered layer's value.
template <class Low, int Id, class P>
View<Stored<Low, Id, P>> locate(const Context<P>& c) {
  using T = Stored<Low, Id, P>;
  constexpr Location l = Low::plan.location[Id];
  if constexpr (l.space == Space::parameter || l.space == Space::parameter_gradient || l.space == Space::constant) {
    float* base = l.space == Space::parameter_gradient
                      ? c.parameter_gradients
                      : const_cast<float*>(l.space == Space::parameter ? c.parameters : c.constants);
    return {base + context_detail::parameter_offset<Low, Id>(c.shape), l.stride};
  } else if constexpr (l.space == Space::prepared) {
    return {reinterpret_cast<T*>(c.prepared[l.base]), l.stride};
  } else {
    constexpr Index before = Layout<Low, P>::bytes_before(Id);
    std::byte* base = c.arena[static_cast<int>(l.space)][static_cast<int>(l.domain)];
    return {reinterpret_cast<T*>(base + before * rows_of(l.domain, c.shape)) + l.column, l.stride};
  }
}

/// One node of a lowered layer on its way to a kernel: operands, outputs, sizes, and the queue to put it in.
template <class Low_, int Id, class P>
struct Call {
  using Low = Low_;
  using Precision = P;
  static constexpr Node node = Low::graph.nodes[Id];
  const Context<P>& context;

  const Shape& shape() const { return context.shape; }
  Queue& queue() const { return *context.queue; }
  /// Rows that the node has.
  Index rows() const { return rows_of(node.domain, context.shape); }

  static constexpr bool has(int k) { return k < node.operands; }
  static constexpr const Node& operand(int k) { return Low::graph.nodes[node.operand[k]]; }
  /// The type in which operand K is stored.
  template <int K>
  using In = Stored<Low, Low::graph.nodes[Id].operand[K], P>;
  /// The type in which output K is stored.
  template <int K = 0>
  using Out = Stored<Low, Id + K, P>;

  /// Neighbouring columns of operand K, or of output K, that can be read or written at once from any multiple of their
  /// number on.
  template <int K>
  static constexpr int in_chunk() {
    return Layout<Low, P>::alignment(Low::graph.nodes[Id].operand[K]) / static_cast<int>(sizeof(In<K>));
  }
  template <int K = 0>
  static constexpr int out_chunk() {
    return Layout<Low, P>::alignment(Id + K) / static_cast<int>(sizeof(Out<K>));
  }

  template <int K>
  View<const In<K>> in() const {
    return locate<Low, Low::graph.nodes[Id].operand[K]>(context);
  }
  /// Output K: 0 is the node itself, K the K-th `result` behind it.
  template <int K = 0>
  View<Out<K>> out() const {
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
  /// True if operand K is a parameter (or part of one): then `factor` gives it in the type of matrix products.
  template <int K>
  static constexpr bool is_parameter() {
    return Low::plan.location[Low::graph.nodes[Id].operand[K]].space == Space::parameter;
  }
  template <int K>
  const typename P::Activation* factor() const {
    return context.factors + context_detail::parameter_offset<Low, Low::graph.nodes[Id].operand[K]>(context.shape);
  }
};

/// The device's kernel of an operation: `template <class C> static void run(const C& call)` with a `Call`, which puts
/// the work into `call.queue()`. Outputs of one row per token or sequence are overwritten; sums over rows are added
/// (the executor zeroes). Nothing may depend on the order in which threads happen to run. A prepared operation also has
/// `template <class C> static Index bytes(const Shape&)`, the memory it wants.
template <const Operation* Op>
struct Kernel {
  static_assert(Op == nullptr,
                "mad: this operation has no kernel on the CUDA device; specialise mad::cuda::Kernel<&operation>.");
};

}  // namespace mad::cuda
