// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a kernel of the device gets: sizes, memory, the queue, and the node it computes.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/call/arena_layout.hpp>
#include <mad/cuda/call/call_form.hpp>
#include <mad/cuda/call/layout.hpp>
#include <mad/cuda/device/queue.hpp>

#include <algorithm>
#include <iterator>
#include <span>
#include <type_traits>

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
  bool with_epilogue = false;  ///< the backward phase starts the epilogue, once nothing adds to what that reads
  bool leaves_norm = false;    ///< a norm that has been put off alone stays so: what comes next computes it along

  std::byte*& at(Space space, Domain domain = Domain::tokens) {
    return arena[static_cast<int>(space)][static_cast<int>(domain)];
  }
};

/// Where a value of a layer lies, as plain data: what differs from layer to layer is read, not compiled again.
struct Place {
  Space space = Space::scratch;
  Domain domain = Domain::tokens;
  int stride = 0;                         ///< in elements
  int slot = 0;                           ///< of a prepared value; of a parameter its index
  Index before = 0;                       ///< bytes per row of the domain that lie before it in its arena
  Index column = 0;                       ///< bytes to the right in its row
  Index row_bytes = 0;                    ///< from one row to the next
  bool read_once = false;                 ///< no other step reads it; known of what a step may follow
  const Parameter* parameters = nullptr;  ///< all of the layer's

  constexpr Place() = default;
  template <class Low, class P>
  static constexpr Place of(int id) {
    const Location& l = Low::plan.location[id];
    Place place;
    place.space = l.space;
    place.domain = l.domain;
    place.stride = l.stride;
    place.slot = l.base;
    place.parameters = Low::parameters.parameters;
    if (!place.is_parameter() && l.space != Space::prepared) place.before = Layout<Low, P>::bytes_before(id);
    const int size = static_cast<int>(Layout<Low, P>::is_short(id) ? sizeof(typename P::Activation) : sizeof(float));
    place.column = l.column * size;
    place.row_bytes = l.stride * size;
    return place;
  }

  constexpr bool is_parameter() const {
    return space == Space::parameter || space == Space::parameter_gradient || space == Space::constant;
  }
  /// Bytes before a parameter of 32 bits in the layer's part of the arena.
  Index parameter_offset(const Shape& shape) const {
    const Index elements = space == Space::constant
                               ? parameters[slot].offset(shape.max_length)
                               : aligned_offset({parameters, static_cast<std::size_t>(slot)}, slot, shape.max_length);
    return elements * static_cast<Index>(sizeof(float)) + column;
  }
};

/// The memory of a value.
template <class P>
[[gnu::noinline]] std::byte* locate(const Context<P>& c, const Place& place) {
  const auto bytes = [](const float* p) { return reinterpret_cast<std::byte*>(const_cast<float*>(p)); };
  switch (place.space) {
    case Space::parameter:
      return bytes(c.parameters) + place.parameter_offset(c.shape);
    case Space::constant:
      return bytes(c.constants) + place.parameter_offset(c.shape);
    case Space::parameter_gradient:
      return bytes(c.parameter_gradients) + place.parameter_offset(c.shape);
    case Space::prepared:
      return c.prepared[place.slot];
    default:
      return c.arena[static_cast<int>(place.space)][static_cast<int>(place.domain)] +
             place.before * rows_of(place.domain, c.shape) + place.column;
  }
}

/// All bytes that rows of a value may lie in: what else is in its rows is counted with it.
template <class P>
Bytes bytes_of(const Context<P>& c, const Place& place) {
  const std::byte* begin = locate(c, place);
  if (place.space == Space::prepared) return {begin, begin + 1};  // nothing else ever lies there
  begin -= place.column;
  if (!place.is_parameter()) return {begin, begin + rows_of(place.domain, c.shape) * place.row_bytes};
  return {begin, begin + place.parameters[place.slot].count(c.shape.max_length) * static_cast<Index>(sizeof(float))};
}

/// The queue for a step that nothing in the context's queue waits for: it starts when all before it is done. What it
/// uses is reserved until the context's queue has waited for that one.
template <class P>
Queue& queue_aside(const Context<P>& c, std::span<const Place> read, std::span<const Place> written) {
  for (const Place& place : read) c.queue->reserve_aside(bytes_of(c, place), false);
  for (const Place& place : written) c.queue->reserve_aside(bytes_of(c, place), true);
  Queue& aside = c.queue->begin_aside();
  for (const Place& place : written)
    if (place.space == Space::accumulator) aside.accumulates();
  return aside;
}

/// The last group of work aside (`Queue::end_group_aside`) that may still write what a step reads, or read or write
/// what it writes; -1 if there is none.
template <class P>
int group_in_the_way(const Context<P>& c, std::span<const Place> read, std::span<const Place> written) {
  int last = -1;
  if (!c.queue->has_reserved()) return last;
  const auto look = [&](const Place& place, bool to_write) {
    if (place.space != Space::registers) last = std::max(last, c.queue->reserving_group(bytes_of(c, place), to_write));
  };
  for (const Place& place : read) look(place, false);
  for (const Place& place : written) look(place, true);
  return last;
}

/// A parameter in the type of matrix products.
template <class P>
[[gnu::noinline]] const typename P::Activation* locate_factor(const Context<P>& c, const Place& place) {
  return c.factors + place.parameter_offset(c.shape) / static_cast<Index>(sizeof(float));
}

/// One node of a lowered layer on its way to a kernel: operands, outputs, sizes, and the queue to put it in. What is
/// constant is its form; the places are those of any node of that form.
template <class Low, int Id, class P>
struct Call {
  static constexpr auto form = make_call_form<Low, Id, P>();
  static constexpr Node node = form.node;
  const Context<P>& context;
  const Place* places;  ///< of the operands, then of the outputs

  const Shape& shape() const { return context.shape; }
  Queue& queue() const { return *context.queue; }
  /// Rows that the node has.
  Index rows() const { return rows_of(node.domain, context.shape); }

  static constexpr bool has(int k) { return k < node.operands; }
  static constexpr const ValueForm& operand(int k) { return form.value[k]; }
  /// The type in which operand K is stored.
  template <int K>
  using In = std::conditional_t<form.value[K].is_short, typename P::Activation, float>;
  /// The type in which output K is stored.
  template <int K = 0>
  using Out = std::conditional_t<form.value[node.operands + K].is_short, typename P::Activation, float>;

  /// Neighbouring columns of operand K, or of output K, that can be read or written at once from any multiple of their
  /// number on.
  template <int K>
  static constexpr int in_chunk() {
    return form.value[K].alignment / static_cast<int>(sizeof(In<K>));
  }
  template <int K = 0>
  static constexpr int out_chunk() {
    return form.value[node.operands + K].alignment / static_cast<int>(sizeof(Out<K>));
  }

  template <int K>
  View<const In<K>> in() const {
    return {reinterpret_cast<const In<K>*>(locate(context, places[K])), places[K].stride};
  }
  /// Output K: 0 is the node itself, K the K-th `result` behind it.
  template <int K = 0>
  View<Out<K>> out() const {
    const Place& place = places[node.operands + K];
    return {reinterpret_cast<Out<K>*>(locate(context, place)), place.stride};
  }
  template <int K>
  static constexpr const ValueForm& output() {
    return form.value[node.operands + K];
  }
  /// True if the operation has a K-th further output.
  template <int K>
  static constexpr bool is_result() {
    return node.operands + K < static_cast<int>(std::size(form.value));
  }
  /// True if operand K is a parameter (or part of one): then `factor` gives it in the type of matrix products.
  template <int K>
  static constexpr bool is_parameter() {
    return form.value[K].is_parameter;
  }
  template <int K>
  const typename P::Activation* factor() const {
    return locate_factor(context, places[K]);
  }
  /// True if the result is added to a parameter's gradient: nothing in the step's plan reads it.
  bool adds_to_parameter() const { return places[node.operands].space == Space::parameter_gradient; }
  /// Where the node reads and writes.
  std::span<const Place> read() const { return {places, static_cast<std::size_t>(node.operands)}; }
  std::span<const Place> written() const {
    return {places + node.operands, std::size(form.value) - static_cast<std::size_t>(node.operands)};
  }
};

/// The queue for the last sums of a kernel, which write its outputs from `first` on.
template <class C>
Queue& sums_aside(const C& call, std::size_t first) {
  return queue_aside(call.context, {}, call.written().subspan(first));
}

/// The device's kernel of an operation: `template <class C> static void run(const C& call)` with a `Call`, which puts
/// the work into `call.queue()`. Outputs of one row per token or sequence are overwritten; sums over rows are added
/// (the executor zeroes). Nothing may depend on the order in which threads happen to run. A prepared operation also has
/// `template <class C> static Index bytes(const Shape&)`, the memory it wants. A kernel whose work may be put off until
/// later steps need it says so by `template <class C> static constexpr bool puts_off()` (put_off_products.cuh).
template <const Operation* Op>
struct Kernel {
  static_assert(Op == nullptr,
                "mad: this operation has no kernel on the CUDA device; specialise mad::cuda::Kernel<&operation>.");
};

}  // namespace mad::cuda
