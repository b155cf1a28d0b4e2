// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run of elementwise nodes as one kernel: every value lives in registers, only what others need is stored.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/instructions/approximate.cuh>
#include <mad/cuda/instructions/numbers.cuh>
#include <mad/graph/run_table.hpp>
#include <mad/ops/elementwise.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
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

/// What the code of a run consists of: runs of equal form share a kernel.
template <int Loads, int Members>
struct RunForm {
  int width = 0;
  Domain domain = Domain::tokens;
  int chunk = 1;  ///< neighbouring columns that a thread computes
  LoadForm load[Loads + 1]{};
  MemberForm member[Members]{};
  double number[Members]{};
  const Operation* op[Members]{};

  /// Tells forms apart. Operations go in by their names.
  constexpr std::uint64_t print() const {
    Fingerprint print;
    for (const int fact : {Loads, Members, width, static_cast<int>(domain), chunk}) print.add(fact);
    for (int l = 0; l < Loads; ++l) {
      const LoadForm& f = load[l];
      for (const int fact : {static_cast<int>(f.columns), static_cast<int>(f.row), f.stride, f.narrow, f.copies,
                             f.whole ? 1 : 0, f.is_short ? 1 : 0})
        print.add(fact);
    }
    for (int m = 0; m < Members; ++m) {
      const MemberForm& f = member[m];
      for (const int fact : {static_cast<int>(f.arity), f.a, f.b, f.stored ? 1 : 0, f.stride, f.is_short ? 1 : 0})
        print.add(fact);
      print.add(number[m]);
      print.add(op[m]->name);
    }
    return print.value();
  }
  constexpr bool has_operation_of(const RunForm& other) const {
    for (int m = 0; m < Members; ++m)
      if (op[m] != other.op[m]) return false;
    return true;
  }
};

/// Where the values of a run lie: what it loads, then its members.
template <int Values>
struct RunPlaces {
  Place at[Values];
};

/// Works out form and places of a run.
template <class Low, int StepIndex, class P>
struct RunMaker {
  static constexpr RunTable table = make_run_table(Low::nodes.at, Low::plan, StepIndex);
  static constexpr int loads = table.load_count;
  static constexpr int members = table.count;
  using Layout = cuda::Layout<Low, P>;
  using Activation = typename P::Activation;

  static constexpr bool stored(int m) { return Low::plan.location[table.members[m]].space != Space::registers; }
  static constexpr bool aligned(int id, int size) {
    const int bytes = size * static_cast<int>(Layout::is_short(id) ? sizeof(Activation) : sizeof(float));
    return Layout::alignment(id) >= (bytes < 16 ? bytes : 16);
  }
  /// Loads that all rows share: parameters, filters. Their alignment does not limit the chunk.
  static constexpr bool is_shared(int id) { return !per_batch(Low::plan.location[id].domain); }

  static constexpr int largest_chunk(Domain domain, int width) {
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

  static constexpr RunForm<loads, members> make_form() {
    RunForm<loads, members> form;
    form.width = Low::nodes.at[table.members[0]].width;
    form.domain = Low::nodes.at[table.members[0]].domain;
    form.chunk = largest_chunk(form.domain, form.width);
    for (int l = 0; l < loads; ++l) {
      const int id = table.loads[l].node;
      const Domain rows = Low::nodes.at[id].domain;
      const int narrow = Low::nodes.at[id].width;
      LoadForm& f = form.load[l];
      f.columns = table.loads[l].columns;
      f.row = rows == form.domain         ? RowOf::own
              : rows == Domain::positions ? RowOf::position
              : rows == Domain::sequences ? RowOf::sequence
                                          : RowOf::first;
      f.stride = f.row == RowOf::first ? 0 : Low::plan.location[id].stride;
      f.narrow = f.columns == RunColumns::tiled ? narrow : 0;
      f.copies = f.columns == RunColumns::spread ? form.width / narrow : 0;
      f.whole = f.columns == RunColumns::same && aligned(id, form.chunk);
      f.is_short = Layout::is_short(id);
    }
    for (int m = 0; m < members; ++m) {
      const int id = table.members[m];
      const Node& n = Low::nodes.at[id];
      MemberForm& f = form.member[m];
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
      f.is_short = f.stored && Layout::is_short(id);
      form.number[m] = n.number[0];
      form.op[m] = n.op;
    }
    return form;
  }

  static constexpr RunPlaces<loads + members> make_places() {
    RunPlaces<loads + members> places;
    for (int l = 0; l < loads; ++l) places.at[l] = Place::of<Low, P>(table.loads[l].node);
    for (int m = 0; m < members; ++m) places.at[loads + m] = Place::of<Low, P>(table.members[m]);
    return places;
  }
};

/// A run of a lowered layer's plan. One thread computes `chunk` neighbouring columns of one row.
template <class Low, int StepIndex, class P>
struct Run {
  using Maker = RunMaker<Low, StepIndex, P>;
  static constexpr int loads = Maker::loads;
  static constexpr int members = Maker::members;
  static constexpr int reads = loads;
  static constexpr int writes = members;
  using Activation = typename P::Activation;
  using Memory = Arguments<loads, members>;
  // Device code may neither call the functions that make it nor name an operation; it reads what they gave.
  static constexpr RunForm<loads, members> form = Maker::make_form();
  static constexpr RunPlaces<loads + members> places = Maker::make_places();
  static constexpr int width = form.width;
  static constexpr int chunk = form.chunk;
  /// In which formulas compute: what ends in half of its bits needs no slow paths.
  using Number =
      std::conditional_t<per_batch(form.domain) && sizeof(Activation) < sizeof(float), approximate::Number, float>;

  template <bool Short>
  using Type = std::conditional_t<Short, Activation, float>;
  template <int I>
  using Constant = std::integral_constant<int, I>;
  template <int M>
  static constexpr double number = form.number[M];
  template <int M>
  using FormulaOf = ops::Formula<form.op[M]>;

  template <int... L, int... M>
  static __device__ void compute(const Memory& memory, std::integer_sequence<int, L...>,
                                 std::integer_sequence<int, M...>) {
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= memory.chunks) return;
    constexpr unsigned per_row = width / chunk;
    const unsigned row = index / per_row;
    const int column = static_cast<int>(index % per_row) * chunk;
    float value[loads + members][chunk];
    (load_columns<form.load[L].columns, form.load[L].whole, form.load[L].narrow, form.load[L].copies>(
         begin_of_row<form.load[L].row, form.load[L].stride, Type<form.load[L].is_short>>(memory.from[L], row,
                                                                                          memory.length),
         column, value[L]),
     ...);
    (evaluate<form.member[M].arity, FormulaOf<M>, Number>(number<M>, value[Constant<form.member[M].a>::value],
                                                          value[Constant<form.member[M].b>::value], value[loads + M]),
     ...);
    (store_columns<form.member[M].stored, form.member[M].stride, Type<form.member[M].is_short>>(
         memory.to[M], row, column, value[loads + M]),
     ...);
  }

  static void run(const Context<P>& context, const Place* at);
};

template <class Low, int StepIndex, class P>
__global__ void __launch_bounds__(256)
    run_kernel(const __grid_constant__ typename Run<Low, StepIndex, P>::Memory memory) {
  using R = Run<Low, StepIndex, P>;
  R::compute(memory, std::make_integer_sequence<int, R::loads>{}, std::make_integer_sequence<int, R::members>{});
}

/// Puts a run into the queue: the same code for all runs, which differ in their kernel and in data. \p at has the
/// places of what is loaded, then of the members.
template <class P>
[[gnu::noinline]] void launch(const Context<P>& context, const void* kernel, const Place* at, int loads, int members,
                              Domain domain, int chunks_per_row) {
  // Laid out as `Arguments<loads, members>`.
  void* arguments[3 * longest_run + 2]{};
  for (int l = 0; l < loads; ++l) arguments[l] = locate(context, at[l]);
  int next = loads > 0 ? loads : 1;
  for (int m = 0; m < members; ++m, ++next)
    if (at[loads + m].space != Space::registers) arguments[next] = locate(context, at[loads + m]);
  const unsigned counts[2] = {static_cast<unsigned>(context.shape.length),
                              static_cast<unsigned>(rows_of(domain, context.shape) * chunks_per_row)};
  static_assert(sizeof counts == sizeof(void*));
  std::memcpy(&arguments[next], counts, sizeof counts);
  void* parameters[] = {arguments};
  context.queue->launch_kernel("an elementwise run", kernel, dim3((counts[1] + 255) / 256), dim3(256), 0, parameters);
}

template <class Low, int StepIndex, class P>
void Run<Low, StepIndex, P>::run(const Context<P>& context, const Place* at) {
  static_assert(sizeof(Memory) == sizeof(void*) * ((loads > 0 ? loads : 1) + members + 1));
  launch(context, reinterpret_cast<const void*>(&run_kernel<Low, StepIndex, P>), at, loads, members, form.domain,
         width / chunk);
}

}  // namespace mad::cuda::elementwise
