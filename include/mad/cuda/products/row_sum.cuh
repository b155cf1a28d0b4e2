// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums over many rows in a fixed order: gradients of biases, and the last step of other parameters' gradients.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mad::cuda {

/// A row of sums from each block of a grid, and how they are added up within the same kernel: the last block of each
/// group of 16 adds up its group's rows, and the last of these the groups' sums. Either time all rows are read at once,
/// and the order of addition is the same whichever blocks are last.
struct PartialRows {
  static constexpr unsigned group = 16;
  static constexpr Index most_blocks = Index{group} * group;

  float* rows = nullptr;    ///< (blocks + groups, stride)
  unsigned stride = 0;      ///< a multiple of 4
  int* counters = nullptr;  ///< (sets of blocks, 1 + groups), 0 whenever no kernel runs

  /// For sets of at most `most_blocks` blocks. Several sets may share the rows, each with columns of its own.
  static PartialRows take(Queue& queue, Index blocks, Index columns, Index sets = 1) {
    const Index groups = (blocks + group - 1) / group;
    const Index stride = (columns + 3) / 4 * 4;
    return {queue.take<float>((blocks + groups) * stride), static_cast<unsigned>(stride),
            queue.counters(blocks > 1 ? sets * (1 + groups) : 0)};
  }

  __device__ float* row(unsigned block) const { return rows + std::size_t{block} * stride; }

  /// Called by all threads of block `block` of set `set` after they wrote `columns` columns of its row, from `first`
  /// on: `finish(c, sum)` gets the sums of columns first + c, in the threads of one block. Both are multiples of N.
  template <int N, int Threads, class Finish>
  __device__ void add_up(unsigned set, unsigned block, unsigned blocks, unsigned first, unsigned columns,
                         const Finish& finish) const {
    const unsigned groups = (blocks + group - 1) / group;
    int* set_counters = counters + set * (1 + groups);
    unsigned begin = 0;
    unsigned count = blocks;
    if (groups > 1) {
      const unsigned mine = block / group;
      const unsigned members = min(group, blocks - mine * group);
      if (!is_last_block(set_counters + 1 + mine, static_cast<int>(members))) return;
      for (unsigned c = threadIdx.x * N; c < columns; c += Threads * N) {
        float sum[N];
        sum_rows(mine * group, members, first + c, sum);
        store(row(blocks + mine) + first + c, sum);
      }
      begin = blocks;
      count = groups;
    }
    if (!is_last_block(set_counters, static_cast<int>(count))) return;
    for (unsigned c = threadIdx.x * N; c < columns; c += Threads * N) {
      float sum[N];
      sum_rows(begin, count, first + c, sum);
#pragma unroll
      for (int i = 0; i < N; ++i) finish(c + i, sum[i]);
    }
  }

private:
  template <int N>
  __device__ void sum_rows(unsigned begin, unsigned count, unsigned column, float (&sum)[N]) const {
    const float* from = row(begin) + column;
    Chunk<float, N> next[group];
#pragma unroll
    for (unsigned r = 0; r < group; ++r)
      next[r] = *reinterpret_cast<const Chunk<float, N>*>(from + min(r, count - 1) * stride);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] = 0;
#pragma unroll
      for (unsigned r = 0; r < group; ++r) sum[i] += r < count ? next[r].value[i] : 0.0f;
    }
  }
};

/// to[c] += sum over r of x[r, c]; x (rows, columns).
template <class T>
struct RowSum {
  const T* x;
  std::size_t stride;
  unsigned columns;
  float* to;
};
inline constexpr std::size_t most_row_sums = 16;

namespace row_sum_detail {

inline constexpr int threads = 256;
inline constexpr int warps = threads / 32;
inline constexpr int at_once = 8;  ///< rows that a thread reads at once
template <int N>
inline constexpr unsigned most_log_lanes = N > 1 ? 4 : 5;

template <class T>
struct Task {
  RowSum<T> of;
  unsigned first_tile;
};
template <class T>
struct Tasks {
  Task<T> task[most_row_sums];
  unsigned count;
};

/// Block (x, y) adds up a share of the rows of N 2^log_lanes columns, a tile of one of the tasks: that many lanes are
/// next to each other in a row.
template <int N, class T>
__global__ void __launch_bounds__(threads) add_rows(const __grid_constant__ Tasks<T> tasks, unsigned rows,
                                                    unsigned share, unsigned log_lanes, PartialRows partial) {
  unsigned t = 0;
  while (t + 1 < tasks.count && tasks.task[t + 1].first_tile <= blockIdx.x) ++t;
  const RowSum<T>& of = tasks.task[t].of;
  const unsigned lanes = 1u << log_lanes;
  const unsigned lane = threadIdx.x & (lanes - 1);
  const unsigned step = threads >> log_lanes;
  const unsigned first_column = (blockIdx.x - tasks.task[t].first_tile) * lanes * N;
  const unsigned first_partial = blockIdx.x * lanes * N;
  const unsigned column = first_column + lane * N;
  const unsigned end = min((blockIdx.y + 1) * share, rows);
  float sum[N]{};
  if (column < of.columns) {
    for (unsigned r = blockIdx.y * share + (threadIdx.x >> log_lanes); r < end; r += at_once * step) {
      // Without a branch, so that all is on its way at once: rows that are not there count 0 times.
      Chunk<T, N> next[at_once];
#pragma unroll
      for (int k = 0; k < at_once; ++k)
        next[k] = *reinterpret_cast<const Chunk<T, N>*>(of.x + min(r + k * step, end - 1) * of.stride + column);
#pragma unroll
      for (int k = 0; k < at_once; ++k) {
        const float times = r + k * step < end ? 1.0f : 0.0f;
#pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += times * to_float(next[k].value[i]);
      }
    }
  }
  // Rows within a warp, then warps.
  for (unsigned offset = 16; offset >= lanes; offset /= 2) {
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], static_cast<int>(offset));
  }
  __shared__ alignas(16) float of_warp[warps][N << most_log_lanes<N>];
  if (threadIdx.x % 32 < lanes) store(&of_warp[threadIdx.x / 32][lane * N], sum);
  __syncthreads();
  const unsigned here = min(lanes * N, of.columns - first_column);
  float* to = of.to + first_column;
  if (threadIdx.x < here) {
    float total = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) total += of_warp[w][threadIdx.x];
    if (gridDim.y == 1)
      to[threadIdx.x] += total;
    else
      partial.row(blockIdx.y)[first_partial + threadIdx.x] = total;
  }
  if (gridDim.y > 1)
    partial.add_up<1, threads>(blockIdx.x, blockIdx.y, gridDim.y, first_partial, here,
                               [&](unsigned c, float s) { to[c] += s; });
}

template <int N, class T>
void launch(Queue& queue, std::span<const RowSum<T>> sums, Index rows) {
  unsigned columns = 1;
  for (const RowSum<T>& s : sums) columns = std::max(columns, s.columns);
  unsigned log_lanes = 0;
  while (log_lanes < most_log_lanes<N> && (Index{N} << log_lanes) < columns) ++log_lanes;
  const unsigned tile = unsigned{N} << log_lanes;
  Tasks<T> tasks{.task = {}, .count = static_cast<unsigned>(sums.size())};
  unsigned tiles = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    tasks.task[i] = {sums[i], tiles};
    tiles += (sums[i].columns + tile - 1) / tile;
  }
  const Index step = threads >> log_lanes;
  // Handing a block's sums on takes as long as reading a few times.
  const Index most = std::clamp<Index>(4 * queue.multiprocessors() / std::max(tiles, 1u), 1, PartialRows::most_blocks);
  const Index wanted = rows <= 3 * at_once * step ? 1 : (rows + at_once * step - 1) / (at_once * step);
  const Index some = std::min(wanted, most);
  const Index share = std::max<Index>(1, (rows + some * step - 1) / (some * step)) * step;
  const Index shares = (rows + share - 1) / share;
  const PartialRows partial = PartialRows::take(queue, shares, Index{tiles} * tile, tiles);
  queue.launch("a sum over rows", add_rows<N, T>, dim3(tiles, static_cast<unsigned>(shares)), dim3(threads), 0, tasks,
               rows, share, log_lanes, partial);
}

}  // namespace row_sum_detail

/// Several sums over the same number of rows at once, at most `most_row_sums`, to places that do not overlap.
template <class T>
void add_row_sums(Queue& queue, std::span<const RowSum<T>> sums, Index rows) {
  if (sums.size() > most_row_sums) throw Error("CUDA: too many sums over rows at once");
  // 16 bytes at a time where rows begin at multiples of them.
  constexpr int whole = 16 / sizeof(T);
  const auto fits = [](const RowSum<T>& s) {
    return s.columns % whole == 0 && s.stride % whole == 0 && reinterpret_cast<std::uintptr_t>(s.x) % 16 == 0;
  };
  if (std::all_of(sums.begin(), sums.end(), fits))
    row_sum_detail::launch<whole, T>(queue, sums, rows);
  else
    row_sum_detail::launch<1, T>(queue, sums, rows);
}

/// to[c] += sum over r of x[r, c]; x (rows, columns), to (columns).
template <class T>
void add_row_sums(Queue& queue, View<const T> x, Index rows, Index columns, float* to) {
  const RowSum<T> sum{x.data, static_cast<std::size_t>(x.stride), static_cast<unsigned>(columns), to};
  add_row_sums<T>(queue, std::span(&sum, 1), rows);
}

/// The same for columns [0, columns) to `to` and the `more` behind them to `behind`, if that is not null.
template <class T>
void add_row_sums(Queue& queue, View<const T> x, Index rows, Index columns, float* to, Index more, float* behind) {
  if (behind == to + columns) {  // one parameter behind the other
    add_row_sums(queue, x, rows, columns + more, to);
    return;
  }
  add_row_sums(queue, x, rows, columns, to);
  if (behind != nullptr) add_row_sums(queue, View<const T>{x.data + columns, x.stride}, rows, more, behind);
}

}  // namespace mad::cuda
