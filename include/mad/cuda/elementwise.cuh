// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run of elementwise nodes as one kernel: every value lives in registers, only what others need is stored.
#pragma once

#include <mad/cuda/approximate.cuh>
#include <mad/cuda/context.hpp>
#include <mad/cuda/numbers.cuh>
#include <mad/graph/run_table.hpp>
#include <mad/ops/elementwise.hpp>

#include <cstddef>
#include <span>
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

/// Which row of a value belongs to a row of the run.
enum class RowOf : unsigned char { own, position, sequence, first };

/// How a load is read. What does not matter to a form is 0, so that runs share the code.
struct LoadForm {
  RunColumns columns;
  RowOf row;
  int stride;
  int narrow;  ///< its own columns, where they are tiled
  int copies;  ///< of each column, where they are spread
  bool whole;  ///< a chunk can be read at once
  bool is_short;
};

enum class Arity : unsigned char { none, copy, one, two };

/// How a member is computed, and stored if it is. Values are numbered loads first.
struct MemberForm {
  Arity arity;
  int a, b;  ///< its arguments
  bool stored;
  int stride;
  bool is_short;
};

template <RowOf Which, int Stride, class T>
__device__ inline const T* begin_of_row(const void* memory, unsigned row, unsigned length) {
  const T* p = static_cast<const T*>(memory);
  if constexpr (Which == RowOf::own) p += static_cast<std::size_t>(row) * Stride;
  if constexpr (Which == RowOf::position) p += static_cast<std::size_t>(row % length) * Stride;
  if constexpr (Which == RowOf::sequence) p += static_cast<std::size_t>(row / length) * Stride;
  return p;
}

template <RunColumns Columns, bool Whole, int Narrow, int Copies, int Chunk, class T>
__device__ inline void load_columns(const T* row, int column, float (&x)[Chunk]) {
  if constexpr (Whole) {
    load(row + column, x);
  } else {
#pragma unroll
    for (int i = 0; i < Chunk; ++i) {
      if constexpr (Columns == RunColumns::single)
        x[i] = to_float(row[0]);
      else if constexpr (Columns == RunColumns::same)
        x[i] = to_float(row[column + i]);
      else if constexpr (Columns == RunColumns::tiled)
        x[i] = to_float(row[(column + i) % Narrow]);
      else
        x[i] = to_float(row[(column + i) / Copies]);
    }
  }
}

template <Arity Operands, class Formula, class Number, int Chunk>
__device__ inline void evaluate(double number, const float (&a)[Chunk], const float (&b)[Chunk], float (&y)[Chunk]) {
#pragma unroll
  for (int i = 0; i < Chunk; ++i) {
    if constexpr (Operands == Arity::none)
      y[i] = 0;
    else if constexpr (Operands == Arity::copy)
      y[i] = a[i];
    else if constexpr (Operands == Arity::one)
      y[i] = as_float(Formula::apply(number, Number(a[i])));
    else
      y[i] = as_float(Formula::apply(number, Number(a[i]), Number(b[i])));
  }
}

template <bool Stored, int Stride, class T, int Chunk>
__device__ inline void store_columns(void* memory, unsigned row, int column, const float (&x)[Chunk]) {
  if constexpr (Stored) store(static_cast<T*>(memory) + static_cast<std::size_t>(row) * Stride + column, x);
}

/// A run of a lowered layer's plan. One thread computes `chunk` neighbouring columns of one row.
template <class Low, int StepIndex, class P>
struct Run {
  static constexpr RunTable table = make_run_table(Low::graph, Low::plan, StepIndex);
  static constexpr int loads = table.load_count;
  static constexpr int members = table.count;
  static constexpr int width = Low::graph.nodes[table.members[0]].width;
  static constexpr Domain domain = Low::graph.nodes[table.members[0]].domain;
  using Activation = typename P::Activation;
  using Memory = Arguments<loads, members>;

  static constexpr bool stored(int m) { return Low::plan.location[table.members[m]].space != Space::registers; }

  static constexpr bool aligned(int id, int size) {
    const int bytes = static_cast<int>(Layout<Low, P>::is_short(id) ? sizeof(Activation) : sizeof(float));
    return Layout<Low, P>::alignment(id) >= (size * bytes < 16 ? size * bytes : 16);
  }
  /// Loads that all rows share: parameters, filters. Their alignment does not limit the chunk.
  static constexpr bool is_shared(int id) { return !per_batch(Low::plan.location[id].domain); }

  static constexpr int largest_chunk() {
    int size = per_batch(domain) ? 16 / static_cast<int>(sizeof(Activation)) : 1;
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
  using Number =
      std::conditional_t<per_batch(domain) && sizeof(Activation) < sizeof(float), approximate::Number, float>;

  // Device code may neither call the functions above nor name an operation; it reads what they gave.
  struct Forms {
    LoadForm load[loads + 1]{};
    MemberForm member[members]{};
    Place source[loads + 1];
    Place target[members];

    constexpr Forms() {
      for (int l = 0; l < loads; ++l) {
        const int id = table.loads[l].node;
        const Domain rows = Low::graph.nodes[id].domain;
        const int narrow = Low::graph.nodes[id].width;
        LoadForm& f = load[l];
        f.columns = table.loads[l].columns;
        f.row = rows == domain              ? RowOf::own
                : rows == Domain::positions ? RowOf::position
                : rows == Domain::sequences ? RowOf::sequence
                                            : RowOf::first;
        f.stride = f.row == RowOf::first ? 0 : Low::plan.location[id].stride;
        f.narrow = f.columns == RunColumns::tiled ? narrow : 0;
        f.copies = f.columns == RunColumns::spread ? width / narrow : 0;
        f.whole = f.columns == RunColumns::same && aligned(id, chunk);
        f.is_short = Layout<Low, P>::is_short(id);
        source[l] = Place::of<Low, P>(id);
      }
      for (int m = 0; m < members; ++m) {
        const int id = table.members[m];
        const Node& n = Low::graph.nodes[id];
        MemberForm& f = member[m];
        f.arity = n.operands == 0                                                             ? Arity::none
                  : n.op == &ops::copy_op || n.op == &ops::tile_op || n.op == &ops::spread_op ? Arity::copy
                  : n.operands == 1                                                           ? Arity::one
                                                                                              : Arity::two;
        const auto argument = [&](int k) {
          const int from = table.argument[m][k];
          return k >= n.operands ? loads + m : from >= 0 ? loads + from : ~from;
        };
        f.a = argument(0);
        f.b = argument(1);
        f.stored = stored(m);
        f.stride = f.stored ? Low::plan.location[id].stride : 0;
        f.is_short = f.stored && Layout<Low, P>::is_short(id);
        target[m] = Place::of<Low, P>(id);
      }
    }
  };
  static constexpr Forms forms{};

  template <bool Short>
  using Type = std::conditional_t<Short, Activation, float>;
  template <int I>
  using Constant = std::integral_constant<int, I>;
  template <int M>
  static constexpr double number = Low::graph.nodes[table.members[M]].number[0];
  template <int M>
  using FormulaOf = ops::Formula<Low::graph.nodes[table.members[M]].op>;

  template <int... L, int... M>
  static __device__ void compute(const Memory& memory, std::integer_sequence<int, L...>,
                                 std::integer_sequence<int, M...>) {
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= memory.chunks) return;
    constexpr unsigned per_row = width / chunk;
    const unsigned row = index / per_row;
    const int column = static_cast<int>(index % per_row) * chunk;
    float value[loads + members][chunk];
    (load_columns<forms.load[L].columns, forms.load[L].whole, forms.load[L].narrow, forms.load[L].copies>(
         begin_of_row<forms.load[L].row, forms.load[L].stride, Type<forms.load[L].is_short>>(memory.from[L], row,
                                                                                             memory.length),
         column, value[L]),
     ...);
    (evaluate<forms.member[M].arity, FormulaOf<M>, Number>(number<M>, value[Constant<forms.member[M].a>::value],
                                                           value[Constant<forms.member[M].b>::value], value[loads + M]),
     ...);
    (store_columns<forms.member[M].stored, forms.member[M].stride, Type<forms.member[M].is_short>>(
         memory.to[M], row, column, value[loads + M]),
     ...);
  }

  static void run(const Context<P>& context);
};

template <class Low, int StepIndex, class P>
__global__ void __launch_bounds__(256)
    run_kernel(const __grid_constant__ typename Run<Low, StepIndex, P>::Memory memory) {
  using R = Run<Low, StepIndex, P>;
  R::compute(memory, std::make_integer_sequence<int, R::loads>{}, std::make_integer_sequence<int, R::members>{});
}

template <class Low, int StepIndex, class P>
void Run<Low, StepIndex, P>::run(const Context<P>& context) {
  wait_for_aside(context, std::span(forms.source).first(loads), forms.target);
  Memory memory{};
  for (int l = 0; l < loads; ++l) memory.from[l] = locate(context, forms.source[l]);
  for (int m = 0; m < members; ++m)
    if (forms.member[m].stored) memory.to[m] = locate(context, forms.target[m]);
  memory.length = static_cast<unsigned>(context.shape.length);
  memory.chunks = static_cast<unsigned>(rows_of(domain, context.shape) * (width / chunk));
  context.queue->launch("an elementwise run", run_kernel<Low, StepIndex, P>, dim3((memory.chunks + 255) / 256),
                        dim3(256), 0, memory);
}

}  // namespace mad::cuda::elementwise
