// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums over rows and columns (the adjoint of repeating a value), concatenations, and adding to gradients.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/row_grid.cuh>
#include <mad/cuda/products/deferred_gradients.cuh>
#include <mad/cuda/products/row_sum.cuh>

#include <algorithm>
#include <string_view>
#include <utility>

namespace mad::cuda {

namespace sum_detail {

/// Which rows of the wide value belong to a row of the narrow one: `count` rows, `step` apart, from the row's first.
struct Rows {
  unsigned count;
  std::size_t step;
  std::size_t first_step;  ///< the first of narrow row r is row r * first_step
};

/// One thread per element of the result.
template <int Wide, int Narrow, Fold How, bool Add, class T, class U>
__global__ void __launch_bounds__(128)
    fold(const T* x, std::size_t x_stride, Rows rows, U* y, std::size_t y_stride, unsigned elements) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= elements) return;
  constexpr int copies = Wide / Narrow;
  const unsigned row = index / Narrow;
  const unsigned column = index % Narrow;
  const T* from = x + row * rows.first_step * x_stride;
  float sum = 0;
  for (unsigned r = 0; r < rows.count; ++r) {
#pragma unroll 4
    for (int k = 0; k < copies; ++k)
      sum += to_float(from[How == Fold::tile ? column + k * Narrow : column * copies + k]);
    from += rows.step * x_stride;
  }
  U* to = y + row * y_stride + column;
  *to = from_float<U>(Add ? to_float(*to) + sum : sum);
}

/// One warp per element of the result: for a single column.
template <int Wide, class T, class U>
__global__ void __launch_bounds__(128)
    sum_columns(const T* x, std::size_t x_stride, U* y, std::size_t y_stride, unsigned rows) {
  const unsigned row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (row >= rows) return;
  float sum = 0;
  for (int c = static_cast<int>(threadIdx.x % 32); c < Wide; c += 32) sum += to_float(x[row * x_stride + c]);
  sum = lane_sum<32>(sum);
  if (threadIdx.x % 32 == 0) y[row * y_stride] = from_float<U>(sum);
}

/// N columns per thread.
template <int N, class T, class U>
__global__ void __launch_bounds__(RowGrid::threads)
    copy_columns(const T* x, std::size_t x_stride, U* y, std::size_t y_stride, unsigned chunks, unsigned rows) {
  const std::size_t row = RowGrid::row();
  const unsigned chunk = RowGrid::chunk();
  if (row >= rows || chunk >= chunks) return;
  float value[N];
  load(x + row * x_stride + chunk * N, value);
  store(y + row * y_stride + chunk * N, value);
}

template <int N, class T>
__global__ void __launch_bounds__(RowGrid::threads)
    add_to(const T* x, std::size_t x_stride, float* y, std::size_t y_stride, unsigned chunks, unsigned rows) {
  const std::size_t row = RowGrid::row();
  const unsigned chunk = RowGrid::chunk();
  if (row >= rows || chunk >= chunks) return;
  float value[N];
  float sum[N];
  load(x + row * x_stride + chunk * N, value);
  load(y + row * y_stride + chunk * N, sum);
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] += value[i];
  store(y + row * y_stride + chunk * N, sum);
}

/// The largest power of two, at most `Most`, of which all the numbers are multiples.
template <int Most>
constexpr int common_chunk(auto... multiples) {
  int chunk = Most;
  while (((multiples % chunk != 0) || ...)) chunk /= 2;
  return chunk;
}

template <int N, class T, class U>
void copy(Queue& queue, std::string_view what, View<const T> from, View<U> to, Index rows, Index width) {
  const RowGrid grid(rows, width / N);
  queue.launch(what, copy_columns<N, T, U>, grid.blocks, grid.block, 0, from.data, from.stride, to.data, to.stride,
               width / N, rows);
}

inline dim3 blocks(Index elements, Index size) { return dim3(static_cast<unsigned>((elements + size - 1) / size)); }

}  // namespace sum_detail

template <>
struct Kernel<&ops::sum_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = sum_detail;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    constexpr Domain from = C::operand(0).domain;
    constexpr Domain to = C::node.domain;
    constexpr int wide = C::operand(0).width;
    constexpr int narrow = C::node.width;
    constexpr Fold how = static_cast<Fold>(C::node.attribute[0]);
    constexpr bool add = !per_batch(to) && from != to;
    const Shape& shape = call.shape();
    const auto x = call.template in<0>();
    const auto y = call.out();
    const Index rows = rows_of(from, shape);
    if constexpr (from != Domain::one && to == Domain::one) {
      if constexpr (wide == narrow) {
        if (!defer_row_sums(call.queue(), x, rows, wide, y.data, call.adds_to_parameter()))
          add_row_sums(call.queue(), x, rows, wide, y.data);
      } else if (how == Fold::tile && x.stride == wide) {
        // Rows without gaps: each is as many short rows as the narrow one is repeated.
        add_row_sums<T>(call.queue(), {x.data, narrow}, rows * (wide / narrow), narrow, y.data);
      } else {
        float* sums = call.queue().template take<float>(wide);
        call.queue().zero(sums, wide * sizeof(float));
        add_row_sums(call.queue(), x, rows, wide, sums);
        call.queue().launch("a sum over columns", d::fold<wide, narrow, how, true, float, float>,
                            d::blocks(narrow, 128), dim3(128), 0, sums, 0, d::Rows{1, 0, 0}, y.data, 0, narrow);
      }
    } else if constexpr (from == to && narrow == 1) {
      call.queue().launch("a sum over columns", d::sum_columns<wide, T, U>, d::blocks(rows * 32, 128), dim3(128), 0,
                          x.data, x.stride, y.data, y.stride, rows);
    } else {
      const Index elements = call.rows() * narrow;
      d::Rows of{1, 0, 1};
      if (from != to && to == Domain::positions)
        of = {static_cast<unsigned>(shape.batch), static_cast<std::size_t>(shape.length), 1};
      if (from != to && to == Domain::sequences)
        of = {static_cast<unsigned>(shape.length), 1, static_cast<std::size_t>(shape.length)};
      call.queue().launch("a sum", d::fold<wide, narrow, how, add, T, U>, d::blocks(elements, 128), dim3(128), 0,
                          x.data, x.stride, of, y.data, y.stride, elements);
    }
  }
};

template <>
struct Kernel<&ops::concat_op> {
  /// True if all parts lie where they belong.
  template <class C>
  static constexpr bool does_nothing(const Place* places) {
    const Place& to = places[C::node.operands];
    Index column = to.column;
    bool all = true;
    for (int k = 0; k < C::node.operands; ++k) {
      const Place& part = places[k];
      all = all && part.space == to.space && part.domain == to.domain && part.before == to.before &&
            part.column == column && part.row_bytes == to.row_bytes && !part.is_parameter() &&
            part.space != Space::prepared && part.space != Space::registers;
      column += C::operand(k).width * (to.stride > 0 ? to.row_bytes / to.stride : 0);
    }
    return all;
  }
  template <class C>
  static void run(const C& call) {
    parts(call, std::make_integer_sequence<int, C::node.operands>{});
  }

private:
  template <class C, int... K>
  static void parts(const C& call, std::integer_sequence<int, K...>) {
    (copy_part<K>(call), ...);
  }
  template <class C, int K>
  static constexpr int first_column() {
    int column = 0;
    for (int k = 0; k < K; ++k) column += C::operand(k).width;
    return column;
  }
  template <int K, class C>
  static void copy_part(const C& call) {
    constexpr int column = first_column<C, K>();
    constexpr int width = C::operand(K).width;
    const auto part = call.template in<K>();
    const auto to = call.out().columns_from(column);
    if (static_cast<const void*>(part.data) == static_cast<const void*>(to.data)) return;  // its kernel wrote it there
    constexpr int chunk =
        sum_detail::common_chunk<std::min(C::template in_chunk<K>(), C::template out_chunk<0>())>(column, width);
    sum_detail::copy<chunk>(call.queue(), "a concatenation", part, to, call.rows(), width);
  }
};

template <>
struct Kernel<&ops::accumulate_op> {
  template <class C>
  static void run(const C& call) {
    const auto from = call.template in<0>();
    const auto to = call.out();
    constexpr int width = C::node.width;
    constexpr int chunk =
        sum_detail::common_chunk<std::min(C::template in_chunk<0>(), C::template out_chunk<0>())>(width);
    const RowGrid grid(call.rows(), width / chunk);
    call.queue().launch("adding to a gradient", sum_detail::add_to<chunk, typename C::template In<0>>, grid.blocks,
                        grid.block, 0, from.data, from.stride, to.data, to.stride, width / chunk, call.rows());
  }
};

}  // namespace mad::cuda
