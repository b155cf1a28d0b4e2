// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums over many rows in a fixed order: gradients of biases, and the last step of other parameters' gradients.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/numbers.cuh>
#include <mad/cuda/queue.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace mad::cuda {

namespace row_sum_detail {

inline constexpr int lanes = 32;
inline constexpr int groups = 8;  ///< rows that a block takes at a time

/// Adds up what the groups of a block hold for its lanes; all threads get the sums.
template <int Chunk>
__device__ inline void sum_groups(float (&x)[Chunk]) {
  __shared__ float part[groups][lanes][Chunk];
  __syncthreads();  // the last use is over
#pragma unroll
  for (int i = 0; i < Chunk; ++i) part[threadIdx.y][threadIdx.x][i] = x[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Chunk; ++i) {
    float sum = 0;
#pragma unroll
    for (int g = 0; g < groups; ++g) sum += part[g][threadIdx.x][i];
    x[i] = sum;
  }
}

/// Block (x, y): columns from 32 Chunk x on, of a share of the rows. The last block of some columns adds up the shares.
template <int Chunk, class T>
__global__ void __launch_bounds__(lanes* groups) add_rows(const T* x, std::size_t stride, unsigned rows,
                                                          unsigned columns, float* partial, int* counters, float* to) {
  const unsigned column = (blockIdx.x * lanes + threadIdx.x) * Chunk;
  const unsigned share = (rows + gridDim.y - 1) / gridDim.y;
  const unsigned begin = blockIdx.y * share;
  const unsigned end = min(begin + share, rows);
  const bool here = column < columns;
  float sum[Chunk]{};
  if (here) {
#pragma unroll 8
    for (unsigned r = begin + threadIdx.y; r < end; r += groups) {
      float next[Chunk];
      load(x + r * stride + column, next);
#pragma unroll
      for (int i = 0; i < Chunk; ++i) sum[i] += next[i];
    }
  }
  sum_groups(sum);
  const bool first = threadIdx.y == 0 && here;
  if (gridDim.y > 1) {
    if (first) store(partial + std::size_t{blockIdx.y} * columns + column, sum);
    if (!is_last_block(counters + blockIdx.x, static_cast<int>(gridDim.y))) return;
#pragma unroll
    for (int i = 0; i < Chunk; ++i) sum[i] = 0;
    if (here) {
#pragma unroll 8
      for (unsigned p = threadIdx.y; p < gridDim.y; p += groups) {
        float next[Chunk];
        load(partial + std::size_t{p} * columns + column, next);
#pragma unroll
        for (int i = 0; i < Chunk; ++i) sum[i] += next[i];
      }
    }
    sum_groups(sum);
  }
  if (first)
#pragma unroll
    for (int i = 0; i < Chunk; ++i) to[column + i] += sum[i];
}

template <int Chunk, class T>
void launch(Queue& queue, View<const T> x, Index rows, Index columns, float* to) {
  const Index tiles = (columns + lanes * Chunk - 1) / (lanes * Chunk);
  // As many shares as rows in one: a block reads its rows, and the last block the shares, in about the same time.
  const Index most = std::max<Index>(1, 4 * queue.multiprocessors() / tiles);
  const Index shares = std::clamp<Index>(static_cast<Index>(std::sqrt(static_cast<double>(rows))), 1, most);
  float* partial = queue.take<float>(shares * columns);
  queue.launch("a sum over rows", add_rows<Chunk, T>, dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(shares)),
               dim3(lanes, groups), 0, x.data, x.stride, rows, columns, partial, queue.counters(tiles), to);
}

}  // namespace row_sum_detail

/// to[c] += sum over r of x[r, c]; x (rows, columns), to (columns).
template <class T>
void add_row_sums(Queue& queue, View<const T> x, Index rows, Index columns, float* to) {
  // Four columns at a time where rows begin at multiples of four.
  const bool whole =
      columns % 4 == 0 && x.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(x.data) % (4 * sizeof(T)) == 0;
  if (whole)
    row_sum_detail::launch<4, T>(queue, x, rows, columns, to);
  else
    row_sum_detail::launch<1, T>(queue, x, rows, columns, to);
}

}  // namespace mad::cuda
