// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run of elementwise nodes as one kernel: every value lives in registers, only what others need is stored.
#pragma once

#include <mad/cuda/approximate.cuh>
#include <mad/cuda/context.hpp>
#include <mad/cuda/numbers.cuh>
#include <mad/graph/run_table.hpp>
#include <mad/ops/elementwise.hpp>

#include <type_traits>
#include <utility>

namespace mad::cuda::elementwise {

/// Pointers to what a run reads and writes, by load and by member.
template <int Loads, int Members>
struct Arguments {
  const void* from[Loads > 0 ? Loads : 1];
  void* to[Members];
  unsigned length;
  unsigned chunks;  ///< rows times chunks per row
};

__device__ inline float as_float(float x) { return x; }
__device__ inline float as_float(approximate::Number x) { return x.value; }

/// A run of a lowered layer's plan. One thread computes `chunk` neighbouring columns of one row.
template <class Low, int StepIndex, class P>
struct Run {
  static constexpr RunTable table = make_run_table(Low::graph, Low::plan, StepIndex);
  static constexpr int loads = table.load_count;
  static constexpr int members = table.count;
  static constexpr int width = Low::graph.nodes[table.members[0]].width;
  static constexpr Domain domain = Low::graph.nodes[table.members[0]].domain;
  using Memory = Arguments<loads, members>;

  static constexpr bool stored(int m) { return Low::plan.location[table.members[m]].space != Space::registers; }

  static constexpr bool aligned(int id, int size) {
    const int bytes = static_cast<int>(Layout<Low, P>::is_short(id) ? sizeof(typename P::Activation) : sizeof(float));
    return Layout<Low, P>::alignment(id) >= (size * bytes < 16 ? size * bytes : 16);
  }
  /// Loads that all rows share: parameters, filters. Their alignment does not limit the chunk.
  static constexpr bool is_shared(int id) { return !per_batch(Low::plan.location[id].domain); }

  static constexpr int largest_chunk() {
    int size = per_batch(domain) ? 16 / static_cast<int>(sizeof(typename P::Activation)) : 1;
    for (; size > 1; size /= 2) {
      bool fits = width % size == 0;
      for (int l = 0; l < loads; ++l)
        if (table.loads[l].columns == RunColumns::same && !is_shared(table.loads[l].node))
          fits = fits && aligned(table.loads[l].node, size);
      for (int m = 0; m < members; ++m)
        if (stored(m)) fits = fits && aligned(table.members[m], size);
      if (fits) break;
    }
    return size;
  }
  static constexpr int chunk = largest_chunk();
  /// In which formulas compute: what ends in half of its bits needs no slow paths.
  using Number = std::conditional_t<per_batch(domain) && sizeof(typename P::Activation) < sizeof(float),
                                    approximate::Number, float>;
  // Device code may neither call the functions above nor name an operation; it reads what they gave.
  template <int M>
  static constexpr const Node& member = Low::graph.nodes[table.members[M]];
  template <int M>
  static constexpr int arity = member<M>.operands;
  template <int M>
  static constexpr double number = member<M>.number[0];
  template <int M>
  static constexpr bool copies =
      member<M>.op == &ops::copy_op || member<M>.op == &ops::tile_op || member<M>.op == &ops::spread_op;
  template <int M>
  using FormulaOf = ops::Formula<Low::graph.nodes[table.members[M]].op>;
  template <int M>
  static constexpr bool is_stored = stored(M);
  template <int L>
  static constexpr bool is_whole_load = (table.loads[L].columns == RunColumns::same) &&
                                        aligned(table.loads[L].node, chunk);

  template <int L>
  static __device__ void load_operand(const Memory& memory, unsigned row, int column, float (&x)[chunk]) {
    constexpr RunLoad from = table.loads[L];
    constexpr Location place = Low::plan.location[from.node];
    constexpr Domain rows = Low::graph.nodes[from.node].domain;
    constexpr int narrow = Low::graph.nodes[from.node].width;
    using T = Stored<Low, from.node, P>;
    const T* p = static_cast<const T*>(memory.from[L]);
    if constexpr (rows == domain)
      p += static_cast<std::size_t>(row) * place.stride;
    else if constexpr (rows == Domain::positions)
      p += static_cast<std::size_t>(row % memory.length) * place.stride;
    else if constexpr (rows == Domain::sequences)
      p += static_cast<std::size_t>(row / memory.length) * place.stride;
    if constexpr (is_whole_load<L>) {
      load(p + column, x);
    } else {
#pragma unroll
      for (int i = 0; i < chunk; ++i) {
        const int c = column + i;
        x[i] = to_float(p[from.columns == RunColumns::single  ? 0
                          : from.columns == RunColumns::same  ? c
                          : from.columns == RunColumns::tiled ? c % narrow
                                                              : c / (width / narrow)]);
      }
    }
  }

  template <int M, int K>
  static __device__ float argument(const float (&value)[members][chunk], const float (&loaded)[loads + 1][chunk],
                                   int i) {
    constexpr int from = table.argument[M][K];
    if constexpr (from >= 0)
      return value[from][i];
    else
      return loaded[~from][i];
  }

  template <int M>
  static __device__ void evaluate(float (&value)[members][chunk], const float (&loaded)[loads + 1][chunk]) {
#pragma unroll
    for (int i = 0; i < chunk; ++i) {
      if constexpr (arity<M> == 0)
        value[M][i] = 0;
      else if constexpr (copies<M>)
        value[M][i] = argument<M, 0>(value, loaded, i);
      else if constexpr (arity<M> == 1)
        value[M][i] = as_float(FormulaOf<M>::apply(number<M>, Number(argument<M, 0>(value, loaded, i))));
      else
        value[M][i] = as_float(FormulaOf<M>::apply(number<M>, Number(argument<M, 0>(value, loaded, i)),
                                                   Number(argument<M, 1>(value, loaded, i))));
    }
  }

  template <int M>
  static __device__ void store_member(const Memory& memory, unsigned row, int column,
                                      const float (&value)[members][chunk]) {
    if constexpr (is_stored<M>) {
      constexpr int stride = Low::plan.location[table.members[M]].stride;
      using T = Stored<Low, table.members[M], P>;
      store(static_cast<T*>(memory.to[M]) + static_cast<std::size_t>(row) * stride + column, value[M]);
    }
  }

  template <int... L, int... M>
  static __device__ void compute(const Memory& memory, std::integer_sequence<int, L...>,
                                 std::integer_sequence<int, M...>) {
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= memory.chunks) return;
    constexpr unsigned per_row = width / chunk;
    const unsigned row = index / per_row;
    const int column = static_cast<int>(index % per_row) * chunk;
    float loaded[loads + 1][chunk];
    float value[members][chunk];
    (load_operand<L>(memory, row, column, loaded[L]), ...);
    (evaluate<M>(value, loaded), ...);
    (store_member<M>(memory, row, column, value), ...);
  }

  static void run(const Context<P>& context);
};

template <class Low, int StepIndex, class P>
__global__ void __launch_bounds__(256)
    run_kernel(const __grid_constant__ typename Run<Low, StepIndex, P>::Memory memory) {
  using R = Run<Low, StepIndex, P>;
  R::compute(memory, std::make_integer_sequence<int, R::loads>{}, std::make_integer_sequence<int, R::members>{});
}

namespace detail {

template <class R, class Low, class P, int... L, int... M>
typename R::Memory arguments(const Context<P>& context, std::integer_sequence<int, L...>,
                             std::integer_sequence<int, M...>) {
  typename R::Memory memory{};
  ((memory.from[L] = locate<Low, R::table.loads[L].node>(context).data), ...);
  (
      [&] {
        if constexpr (R::stored(M)) memory.to[M] = locate<Low, R::table.members[M]>(context).data;
      }(),
      ...);
  return memory;
}

}  // namespace detail

template <class Low, int StepIndex, class P>
void Run<Low, StepIndex, P>::run(const Context<P>& context) {
  Memory memory = detail::arguments<Run, Low>(context, std::make_integer_sequence<int, loads>{},
                                              std::make_integer_sequence<int, members>{});
  memory.length = static_cast<unsigned>(context.shape.length);
  memory.chunks = static_cast<unsigned>(rows_of(domain, context.shape) * (width / chunk));
  context.queue->launch("an elementwise run", run_kernel<Low, StepIndex, P>, dim3((memory.chunks + 255) / 256),
                        dim3(256), 0, memory);
}

}  // namespace mad::cuda::elementwise
