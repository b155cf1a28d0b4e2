// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What recurrences of matrix states have in common whose columns (one per channel of the value) do not see each other:
/// a thread keeps one column in registers and walks along the sequence. Gradients of keys and the like are sums over
/// the columns, which lie in neighbouring lanes.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <numeric>

namespace mad::cuda {

__host__ __device__ constexpr int power_of_two_from(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

/// `Width` columns of a head are spread over `lanes` lanes of a warp, in several tiles where they are more than 32. An
/// item is a tile of a head of a sequence.
template <int Width>
struct ColumnLanes {
  static constexpr int lanes = std::min(32, power_of_two_from(Width));
  static constexpr int tiles = (Width + lanes - 1) / lanes;
  static constexpr int threads = 128;
  static constexpr int items_per_block = threads / lanes;

  static unsigned blocks(Index items) { return static_cast<unsigned>((items + items_per_block - 1) / items_per_block); }
};

/// The item and column of a thread. Threads without a column take part in sums with nothing.
template <int Width, int Heads>
struct Column {
  using L = ColumnLanes<Width>;
  unsigned item;
  int tile;
  int head;
  int sequence;
  int lane;
  int column;
  bool here;

  __device__ explicit Column(unsigned items) {
    item = blockIdx.x * L::items_per_block + threadIdx.x / L::lanes;
    const bool valid = item < items;
    if (!valid) item = 0;
    tile = static_cast<int>(item % L::tiles);
    head = static_cast<int>(item / L::tiles % Heads);
    sequence = static_cast<int>(item / (L::tiles * Heads));
    lane = static_cast<int>(threadIdx.x % L::lanes);
    column = tile * L::lanes + lane;
    here = valid && column < Width;
    if (!here) column = 0;
  }
};

/// N neighbouring numbers, of which `Chunk` can be read at once.
template <int Chunk, int N, class T, int Step = std::gcd(Chunk, N)>
__device__ inline void load_row(const T* from, float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += Step) load(from + i, reinterpret_cast<float(&)[Step]>(x[i]));
}

template <int N>
__device__ inline float dot(const float (&a)[N], const float (&b)[N]) {
  constexpr int ways = N % 4 == 0 ? 4 : 1;  // short chains of dependent sums
  float sum[ways]{};
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i % ways] += a[i] * b[i];
  if constexpr (ways == 4)
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  else
    return sum[0];
}

/// Sums of N numbers over `Lanes` neighbouring lanes, each given to `store(index, sum)` in one lane. Each step halves
/// the numbers a lane is in charge of.
template <int Lanes, int N, class Store>
__device__ inline void sum_to_lanes(const float (&x)[N], int lane, const Store& store) {
  constexpr int padded = power_of_two_from(N);
  constexpr int kept = padded > Lanes ? padded / Lanes : 1;  // numbers per lane in the end
  constexpr int same = padded < Lanes ? Lanes / padded : 1;  // lanes with the same number in the end
  float y[padded];
#pragma unroll
  for (int i = 0; i < padded; ++i) y[i] = i < N ? x[i] : 0.0f;
  int offset = Lanes / 2;
#pragma unroll
  for (int count = padded; count > kept; count /= 2, offset /= 2) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < count / 2; ++i) {
      const float mine = upper ? y[i + count / 2] : y[i];
      const float theirs = upper ? y[i] : y[i + count / 2];
      y[i] = mine + __shfl_xor_sync(0xffffffffu, theirs, offset);
    }
  }
#pragma unroll
  for (int rest = same / 2; rest > 0; rest /= 2) y[0] += __shfl_xor_sync(0xffffffffu, y[0], rest);
  if (lane % same != 0) return;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    const int index = lane / same * kept + i;
    if (index < N) store(index, y[i]);
  }
}

/// Places of the states that the backward pass keeps, one in every `stretch` tokens: thread by thread next to each
/// other.
struct Checkpoints {
  float* memory;
  unsigned threads;

  template <int N>
  __device__ void keep(int stretch, const float (&state)[N]) const {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
#pragma unroll
    for (int i = 0; i < N; ++i) memory[(std::size_t(stretch) * N + i) * threads + thread] = state[i];
  }
  template <int N>
  __device__ void load(int stretch, float (&state)[N]) const {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
#pragma unroll
    for (int i = 0; i < N; ++i) state[i] = memory[(std::size_t(stretch) * N + i) * threads + thread];
  }
};

/// to[row, group of `Sum` values] = sum over parts; `from` is (parts, rows, columns), part by part.
template <class T>
__global__ void __launch_bounds__(256)
    add_parts(const float* from, int parts, std::size_t part_stride, std::size_t row_stride, int first, int columns,
              T* to, std::size_t to_stride, unsigned elements) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= elements) return;
  const unsigned row = index / static_cast<unsigned>(columns);
  const unsigned column = index % static_cast<unsigned>(columns);
  float sum = 0;
  for (int p = 0; p < parts; ++p)
    sum += from[static_cast<std::size_t>(p) * part_stride + row * row_stride + first + column];
  to[row * to_stride + column] = from_float<T>(sum);
}

}  // namespace mad::cuda
