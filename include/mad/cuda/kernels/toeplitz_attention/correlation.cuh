// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The filter's gradient of attention under a Toeplitz mask, in bfloat16 on the tensor cores.
#pragma once

#include <mad/cuda/kernels/toeplitz_attention/filter.cuh>
#include <mad/cuda/kernels/toeplitz_attention/rows.cuh>

namespace mad::cuda::toeplitz_tensor {

/// How dh[j] = sum over batch and t of (q_t.k_{t-j}) (dy_t.v_{t-j}) is computed. Positions are cut into tiles of 16;
/// all pairs of tiles at the same distance are added up number by number, in the registers of one warp, and only the
/// diagonals of these sums at the end. A block has a window of lags; keys and values of a span of positions are in
/// shared memory, and queries and gradients of half as many pass by.
template <int Padded>
struct Correlation {
  static constexpr int warps = 8;
  static constexpr int threads = 32 * warps;
  static constexpr int near = 4;                       ///< neighbouring distances of a warp
  static constexpr int groups = Padded <= 32 ? 2 : 1;  ///< of such; far ones, which have fewer pairs, with near ones
  static constexpr int distances = warps * groups * near;  ///< of a block
  static constexpr int lags = 16 * distances;
  static constexpr int before = 16;  ///< the tiles reach lags that are also the last of other blocks
  static constexpr int span = 16384 / Padded / 64 * 64;
  static constexpr int passing = span / 2;

  /// Sequences that pass by together: those that are whole tiles of 32 and short.
  static __host__ __device__ constexpr int together(int length) {
    return length % 32 == 0 && length < passing ? passing / length : 1;
  }
  /// The first distance of a warp's group.
  static __device__ int first_distance(int warp, int group) {
    return near * (group * warps + (group % 2 == 0 ? warp : warps - 1 - warp));
  }

  union Memory {
    struct {
      BFloat16 keys[2][span * Padded];        // and values
      BFloat16 queries[2][passing * Padded];  // and gradients
    } rows;
    struct {
      float tile[warps][16][17];
      float diagonals[distances][32];
    } sums;
  };
};

/// Partial sums of dh. Grid: (shares of the batch, heads, windows of lags).
template <int Width, int Chunk>
__global__ void __launch_bounds__(Correlation<HeadRows<Width, Chunk>::padded>::threads, 2)
    correlate(View<const BFloat16> q, View<const BFloat16> k, View<const BFloat16> v, View<const BFloat16> dy,
              const toeplitz::Partial partial, int batch, int length) {
  using Rows = HeadRows<Width, Chunk>;
  using C = Correlation<Rows::padded>;
  extern __shared__ float4 dynamic_memory[];
  typename C::Memory& memory = *reinterpret_cast<typename C::Memory*>(dynamic_memory);
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_lag = static_cast<int>(blockIdx.z) * C::lags;
  const int positions = (length + 31) / 32 * 32;
  const int together = C::together(length);
  const typename Rows::Places places;
  tensor::Sums total[C::groups][C::near][2];

  // Adds up the pairs of a tile of 32 queries and all keys of the span that are at one of the warp's distances; `s` is
  // the place in the span of the position `first_lag` before the first query.
  const auto add_pairs = [&](const BFloat16* queries, const BFloat16* keys, int s, int count) {
    typename Rows::Left query[2];
    typename Rows::Left gradient[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      query[i] = Rows::left_of(queries + 16 * i * Rows::padded, places);
      gradient[i] = Rows::left_of(queries + (C::passing + 16 * i) * Rows::padded, places);
    }
#pragma unroll
    for (int g = 0; g < C::groups; ++g) {
#pragma unroll
      for (int d = 0; d <= C::near; ++d) {
        const int from = s + 16 - 16 * (C::first_distance(warp, g) + d);  // of the second query tile at distance d
        if (from < 0 || from >= count) continue;
        typename Rows::Right key[2];
        typename Rows::Right value[2];
        Rows::right_of(keys + from * Rows::padded, places, key[0], key[1]);
        Rows::right_of(keys + (C::span + from) * Rows::padded, places, value[0], value[1]);
#pragma unroll
        for (int i = 0; i < 2; ++i) {  // the first query tile is at distance d - 1
          if (d - 1 + i < 0 || d - 1 + i >= C::near) continue;
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const tensor::Sums score = product(query[i], key[h]);
            const tensor::Sums d_weight = product(gradient[i], value[h]);
#pragma unroll
            for (int n = 0; n < 4; ++n) total[g][d - 1 + i][h].value[n] += score.value[n] * d_weight.value[n];
          }
        }
      }
    }
  };

  for (int b0 = static_cast<int>(blockIdx.x) * together; b0 < batch; b0 += static_cast<int>(gridDim.x) * together) {
    const int sequences = min(together, batch - b0);
    const auto of_head = [&](const View<const BFloat16>& x) {
      Positions rows(x, b0, length, false, head * Width);
      rows.length *= sequences;
      return rows;
    };
    for (int s0 = 0; s0 + first_lag < positions; s0 += C::span) {
      const int count = min(C::span, positions - s0);
      const int end = min(positions, s0 + first_lag + C::lags + count);
      for (int t0 = s0 + first_lag; t0 < end; t0 += C::passing) {
        const int passing = min(C::passing, positions - t0);
        __syncthreads();  // the last rows are no longer needed
        Rows::load(memory.rows.queries[0], C::passing * Rows::padded, of_head(q), of_head(dy), t0, sequences * passing);
        if (t0 == s0 + first_lag)
          Rows::load(memory.rows.keys[0], C::span * Rows::padded, of_head(k), of_head(v), s0, sequences * count);
        __syncthreads();
        for (int i = 0; i < sequences; ++i) {
          const int base = i * positions * Rows::padded;
          for (int t = 0; t < passing; t += 32)
            add_pairs(memory.rows.queries[0] + base + t * Rows::padded, memory.rows.keys[0] + base,
                      t0 + t - s0 - first_lag, count);
        }
      }
    }
  }

  // The diagonals: lane j has row - column = j - 15.
  __syncthreads();
  auto& tile = memory.sums.tile[warp];
#pragma unroll
  for (int g = 0; g < C::groups; ++g) {
#pragma unroll
    for (int d = 0; d < C::near; ++d) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int n = 0; n < 4; ++n) tile[lane / 4 + n / 2 * 8][8 * h + lane % 4 * 2 + n % 2] = total[g][d][h].value[n];
      __syncwarp();
      float sum = 0;
#pragma unroll
      for (int row = 0; row < 16; ++row) {
        const int column = row + 15 - lane;
        if (column >= 0 && column < 16) sum += tile[row][column];
      }
      memory.sums.diagonals[C::first_distance(warp, g) + d][lane] = sum;
      __syncwarp();
    }
  }
  __syncthreads();
  float* to = partial.memory + partial.offset(static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.z), head);
  for (int i = static_cast<int>(threadIdx.x); i < C::before + C::lags; i += C::threads) {
    const int distance = i / 16 - 1;  // and the next one, 16 lags back
    const int lag = i % 16;
    to[i] = (distance >= 0 ? memory.sums.diagonals[distance][lag + 15] : 0.0f) +
            (distance + 1 < C::distances && lag > 0 ? memory.sums.diagonals[distance + 1][lag - 1] : 0.0f);
  }
}

template <int Width, int Chunk>
toeplitz::Partial launch_correlation(Queue& queue, View<const BFloat16> q, View<const BFloat16> k,
                                     View<const BFloat16> v, View<const BFloat16> dy, int heads, const Shape& shape) {
  using C = Correlation<HeadRows<Width, Chunk>::padded>;
  const int windows = static_cast<int>((shape.length + C::lags - 1) / C::lags);
  const Index together = C::together(static_cast<int>(shape.length));
  const Index shares = toeplitz::even_shares((shape.batch + together - 1) / together,
                                             2 * Index{queue.multiprocessors()} / (Index{heads} * windows));
  const toeplitz::Partial partial(queue, shares, windows, heads, C::lags, C::before);
  const dim3 grid(static_cast<unsigned>(shares), static_cast<unsigned>(heads), static_cast<unsigned>(windows));
  queue.launch("the filter's gradient of Toeplitz attention", correlate<Width, Chunk>, grid, dim3(C::threads),
               sizeof(typename C::Memory), q, k, v, dy, partial, shape.batch, shape.length);
  return partial;
}

}  // namespace mad::cuda::toeplitz_tensor
