// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of a filter as long as the sequence, of bfloat16 values, on the tensor cores: products of positions
/// with positions, over the sequences of a batch.
#pragma once

#include <mad/cuda/async_copy.cuh>
#include <mad/cuda/long_conv_tensor.cuh>

#include <algorithm>
#include <cstddef>

namespace mad::cuda::long_conv_tensor {

/// The gradient of the filter, dh[j] = sum_{b, t} dy[b, t] u[b, t - j]: of the products P = dY^T U, positions by
/// positions with the sequences in the sum, those tiles at the same distance from the diagonal that have the same lags
/// are added up in registers, and the diagonals of the sums at the end.
struct Correlation {
  static constexpr int sequences = 16;  ///< at a time
  static constexpr int lags = 128;      ///< of a block: 16 tiles of 16 x 8
  static constexpr int before = 15;     ///< the tiles reach lags that are also the last of other blocks
  static constexpr int results = 144;   ///< before + lags, and one unused

  /// Blocks along the lags.
  static constexpr Index blocks(Index length) { return ((length - 1) / 16 * 16 + 8) / lags + 1; }
};

/// What a block that computes Group channels, one per warp, holds in shared memory. With 16 channels it reads whole
/// sectors of 32 bytes.
template <int Group>
struct CorrelationMemory {
  using C = Correlation;
  static constexpr int positions = 64;          ///< of dy and of u
  static constexpr int stride = positions + 8;  ///< eight rows of eight in different banks
  static constexpr int tile_stride = 16 * 8 + 8;
  static constexpr int pieces = Group / 8;  ///< of 16 bytes in a row

  union {
    struct {
      BFloat16 value[2][Group][C::sequences][stride];     // of dy and u
      Row arriving[2][C::sequences][pieces * positions];  // the next ones, rows as they are in memory
    };
    float sums[Group][C::lags / 8][tile_stride];
  };

  /// Where a piece of a row arrives: those of eight neighbouring positions, and of every other one, in different banks.
  static __device__ int place(int position, int piece) {
    const int kind = position % 2 * pieces + piece;
    return kind * (positions / 2) + (position / 2 ^ kind * (4 / pieces));
  }
};

/// partial[share, block of lags, c, before + j] = sum over a share of the sequences for lag 128 block + j, j >=
/// -before. While a warp computes, the next rows arrive. Grid: (channels / Group, blocks of lags, shares).
template <int Channels, int Group>
__global__ void __launch_bounds__(32 * Group, 16 / Group)
    correlate(const BFloat16* dy, std::size_t dy_stride, const BFloat16* u, std::size_t u_stride, float* partial,
              int batch, int length) {
  using C = Correlation;
  using M = CorrelationMemory<Group>;
  constexpr int tiles = C::lags / 8;
  extern __shared__ float4 dynamic_memory[];
  M& m = *reinterpret_cast<M*>(dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_lag = static_cast<int>(blockIdx.y) * C::lags;
  dy += blockIdx.x * Group;
  u += blockIdx.x * Group;
  const auto fetch = [&](int first_sequence, int first) {
    const int piece = static_cast<int>(threadIdx.x) % M::pieces;
    const int position = static_cast<int>(threadIdx.x) / M::pieces % M::positions;
    constexpr int at_once = 32 * Group / (M::pieces * M::positions);
    const int t = first + position;
    const int place = M::place(position, piece);
#pragma unroll 4
    for (int k = 0; k < C::sequences; k += at_once) {
      const int i = k + static_cast<int>(threadIdx.x) / (M::pieces * M::positions);
      const bool exists = first_sequence + i < batch && t - first_lag < length;
      const std::size_t row = exists ? static_cast<std::size_t>(first_sequence + i) * length + (t - first_lag) : 0;
      const bool later = exists && t < length;
      copy_or_clear_async(&m.arriving[0][i][place], dy + (later ? row + first_lag : 0) * dy_stride + 8 * piece, later);
      copy_or_clear_async(&m.arriving[1][i][place], u + row * u_stride + 8 * piece, exists);
    }
    commit_copies();
  };
  tensor::Sums sum[tiles];  // tile e: positions t of dy and t + 8 - first_lag - 8 e of u
  tensor::Right<16> window[tiles];
  const int step = static_cast<int>(gridDim.z) * C::sequences;
  int b = static_cast<int>(blockIdx.z) * C::sequences;
  int first = first_lag;
  if (b < batch) fetch(b, first);
  while (b < batch) {
    if (first == first_lag)
#pragma unroll
      for (int e = 0; e < tiles; ++e) window[e] = {};  // u before the first position is 0
    wait_for_copies<0>();
    __syncthreads();  // and the last values are no longer needed
#pragma unroll
    for (int k = 0; k < 2 * C::sequences * M::pieces; k += Group) {
      const int which = (k + warp) / (C::sequences * M::pieces);
      const int i = (k + warp) / M::pieces % C::sequences;
      const int piece = (k + warp) % M::pieces;
      const Row even = m.arriving[which][i][M::place(2 * lane, piece)];
      const Row odd = m.arriving[which][i][M::place(2 * lane + 1, piece)];
      scatter(even, odd, &m.value[which][8 * piece][i][2 * lane], C::sequences * M::stride);
    }
    __syncthreads();
    first += M::positions;
    if (first >= length) {
      first = first_lag;
      b += step;
    }
    if (b < batch) fetch(b, first);
#pragma unroll
    for (int t = 0; t < M::positions; t += 16) {
      tensor::Left<16> left;
      tensor::load_matrices<true>(&m.value[0][warp][lane / 16 * 8 + lane % 8][t + lane / 8 % 2 * 8], left.part);
      std::uint32_t right[4];
      tensor::load_matrices<true>(&m.value[1][warp][lane % 16][t + lane / 16 * 8], right);
#pragma unroll
      for (int e = tiles - 1; e >= 2; --e) window[e] = window[e - 2];
      window[0] = {{right[2], right[3]}};
      window[1] = {{right[0], right[1]}};
#pragma unroll
      for (int e = 0; e < tiles; ++e) tensor::multiply_add(sum[e], left, window[e]);
    }
  }
  __syncthreads();
  auto& sums = m.sums[warp];
#pragma unroll
  for (int e = 0; e < tiles; ++e)
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[e][(k / 2 * 8 + lane / 4) * 8 + lane % 4 * 2 + k % 2] = sum[e].value[k];
  __syncwarp();
  partial += (static_cast<std::size_t>(blockIdx.z * gridDim.y + blockIdx.y) * Channels + blockIdx.x * Group +
              static_cast<unsigned>(warp)) *
             C::results;
  for (int j = lane; j < C::before + C::lags; j += 32) {
    float total = 0;
#pragma unroll
    for (int row = 0; row < 16; ++row) {  // the element of each row with 8 e - 8 + row - column = j - before
      const int e = (j - row + 7 - C::before + 8) >> 3;
      const int column = 8 * e - 8 + row - j + C::before;
      if (e >= 0 && e < tiles) total += sums[e][row * 8 + column];
    }
    partial[j] = total;
  }
}

/// dh[lag, f] += the partial results of all channels that use filter f; d_skip[f] += the same at lag 0.
template <int Channels, int Filters>
__global__ void __launch_bounds__(256)
    finish(const float* partial, int shares, int blocks, float* dh, std::size_t dh_stride, float* d_skip, int length) {
  using C = Correlation;
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= static_cast<unsigned>(length) * Filters) return;
  const unsigned filter = index / static_cast<unsigned>(length);
  const int lag = static_cast<int>(index % static_cast<unsigned>(length));
  const int block = lag / C::lags;
  const int place = C::before + lag % C::lags;
  const bool twice = place >= C::lags && block + 1 < blocks;
  constexpr std::size_t block_stride = std::size_t{Channels} * C::results;
  float sum = 0;
  for (int p = 0; p < shares; ++p) {
    const float* from = partial + static_cast<std::size_t>(p * blocks + block) * block_stride + place;
#pragma unroll
    for (unsigned c = filter; c < Channels; c += Filters) {
      sum += from[c * C::results];
      if (twice) sum += from[block_stride + c * C::results - C::lags];
    }
  }
  dh[static_cast<std::size_t>(lag) * dh_stride + filter] += sum;
  if (lag == 0) d_skip[filter] += sum;
}

template <int Channels, int Filters, int Group>
void launch_correlate(Queue& queue, View<const BFloat16> dy, View<const BFloat16> u, View<float> dh, float* d_skip,
                      const Shape& shape) {
  using C = Correlation;
  constexpr Index groups = Channels / Group;
  const Index blocks = C::blocks(shape.length);
  const Index most = (shape.batch + C::sequences - 1) / C::sequences;
  const Index shares = std::clamp<Index>(8 * queue.multiprocessors() / (groups * blocks), 1, most);
  float* partial = queue.take<float>(shares * blocks * Channels * C::results);
  const dim3 grid(static_cast<unsigned>(groups), static_cast<unsigned>(blocks), static_cast<unsigned>(shares));
  queue.launch("the filter's gradient of a long convolution", correlate<Channels, Group>, grid, dim3(32 * Group),
               sizeof(CorrelationMemory<Group>), dy.data, dy.stride, u.data, u.stride, partial, shape.batch,
               shape.length);
  queue.launch("the filter's gradient of a long convolution", finish<Channels, Filters>,
               dim3(static_cast<unsigned>((shape.length * Filters + 255) / 256)), dim3(256), 0, partial, shares, blocks,
               dh.data, dh.stride, d_skip, shape.length);
}

template <int Channels, int Filters>
void launch_correlate(Queue& queue, View<const BFloat16> dy, View<const BFloat16> u, View<float> dh, float* d_skip,
                      const Shape& shape) {
  if constexpr (Channels % 16 == 0) {
    if (sizeof(CorrelationMemory<16>) <= most_shared_memory())
      return launch_correlate<Channels, Filters, 16>(queue, dy, u, dh, d_skip, shape);
  }
  launch_correlate<Channels, Filters, 8>(queue, dy, u, dh, d_skip, shape);
}

}  // namespace mad::cuda::long_conv_tensor
