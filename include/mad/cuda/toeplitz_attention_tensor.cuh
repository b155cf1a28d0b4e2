// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention under a Toeplitz mask in bfloat16 on the tensor cores. Heads are padded with zeros to a multiple of 8
/// channels, in shared memory only.
#pragma once

#include <mad/cuda/tensor_core.cuh>
#include <mad/cuda/toeplitz_attention_filter.cuh>

namespace mad::cuda::toeplitz_tensor {

using tensor::Left;
using toeplitz::Filter;
using toeplitz::lag_tile;
using toeplitz::Partial;
using toeplitz::Place;
using toeplitz::Products;

inline constexpr int largest_width = 64;  ///< of heads whose tiles fit into shared memory

/// How a head of Width channels is cut: a block owns `rows` rows, 16 per warp, and keys and values pass by in tiles.
template <int Width>
struct Head {
  static constexpr int padded = (Width + 7) / 8 * 8;
  static constexpr int warps = padded <= 32 ? 8 : 4;
  static constexpr int threads = 32 * warps;
  static constexpr int rows = 16 * warps;
  static constexpr int tile = padded <= 32 ? 64 : 32;
  static constexpr int depth = padded % 16 == 0 ? 16 : 8;  ///< channels per product
  static constexpr int columns = padded / 8;               ///< blocks of sums per row
};

/// Rows [first, first + Rows) of a head, `Chunk` channels at a time; 0 behind the end of the sequence.
template <int Width, int Chunk, int Threads, int Rows>
__device__ void load_rows(tensor::Tile<Rows, Head<Width>::padded>& to, const BFloat16* from, std::size_t stride,
                          int first, int length) {
  using Piece = cuda::Chunk<BFloat16, Chunk>;
  constexpr int padded = Head<Width>::padded;
  constexpr int pieces = padded / Chunk;
  for (int i = static_cast<int>(threadIdx.x); i < Rows * pieces; i += Threads) {
    const int r = i / pieces;
    const int c = i % pieces * Chunk;
    Piece x{};
    if (first + r < length && (padded == Width || c < Width))
      x = *reinterpret_cast<const Piece*>(from + static_cast<std::size_t>(first + r) * stride + c);
    *reinterpret_cast<Piece*>(to.row(r) + c) = x;
  }
}

/// 16 rows of a tile as the left factor of products with rows of others.
template <int Width>
struct Rows16 {
  using H = Head<Width>;
  Left<H::depth> part[H::padded / H::depth];

  template <int Rows>
  __device__ Rows16(const tensor::Tile<Rows, H::padded>& tile, int row) {
#pragma unroll
    for (int d = 0; d < H::padded; d += H::depth) part[d / H::depth] = tile.template left<H::depth>(row, d);
  }
  /// Products with rows [row, row + 8) of another tile.
  template <int Rows>
  __device__ tensor::Sums with(const tensor::Tile<Rows, H::padded>& tile, int row) const {
    tensor::Sums s;
#pragma unroll
    for (int d = 0; d < H::padded; d += H::depth)
      multiply_add(s, part[d / H::depth], tile.template right_of_rows<H::depth>(row, d));
    return s;
  }
};

/// Sums over positions; a warp takes 16 rows.
template <int Width, int Chunk, int Count>
__global__ void __launch_bounds__(Head<Width>::threads)
    sum_positions(const __grid_constant__ toeplitz::SumList<BFloat16, Count> sums, Filter filter) {
  using H = Head<Width>;
  __shared__ alignas(16) tensor::Tile<H::rows, H::padded> queries;
  __shared__ alignas(16) tensor::Tile<H::tile, H::padded> keys;
  __shared__ alignas(16) tensor::Tile<H::tile, H::padded> values;
  __shared__ float factors[H::rows + H::tile];
  const toeplitz::Sum<BFloat16>& of = sums.sum[blockIdx.x % Count];
  const bool ahead = of.ahead;
  const int length = filter.length;
  const Place place = Place::of_block<H::rows, Count>(ahead, length);
  const int head_column = place.head * Width;
  const BFloat16* key = of.key.data + place.sequence * of.key.stride + head_column;
  const BFloat16* value = of.value.data + place.sequence * of.value.stride + head_column;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const int own_first = place.first + own;
  load_rows<Width, Chunk, H::threads>(queries, of.query.data + place.sequence * of.query.stride + head_column,
                                      of.query.stride, place.first, length);
  __syncthreads();
  const Rows16<Width> query(queries, own);
  // The factor of this lane's first row and column; those of later rows lie above it, of later columns below.
  const float* factor = factors + own + lane / 4 - lane % 4 * 2 + H::tile - 1;
  tensor::Sums sum[H::columns];
  const int begin = ahead ? place.first : 0;
  const int end = ahead ? length : min(place.first + H::rows, length);
  for (int s0 = begin; s0 < end; s0 += H::tile) {
    __syncthreads();
    load_rows<Width, Chunk, H::threads>(keys, key, of.key.stride, s0, length);
    load_rows<Width, Chunk, H::threads>(values, value, of.value.stride, s0, length);
    toeplitz::load_factors<H::rows, H::tile, H::threads>(factors, filter, place.head, place.first, s0, ahead);
    __syncthreads();
    // Of the tile's keys this warp needs those up to its last row, or ahead from its first one on.
    const int j_begin = ahead ? max(0, own_first - s0) : 0;
    const int j_end = min(H::tile, (ahead ? length : own_first + 16) - s0);
    float above[2] = {factor[8 - j_begin], factor[7 - j_begin]};
    for (int j = j_begin; j < j_end; j += 16) {
      tensor::Sums weight[2];
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        const float* f = factor - j - 8 * b;
        const float here[2] = {f[0], f[-1]};
        weight[b] = query.with(keys, j + 8 * b);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          weight[b].value[i] *= here[i];
          weight[b].value[2 + i] *= above[i];  // 8 rows below, 8 columns before: the same lag
          above[i] = here[i];
        }
      }
      const Left<16> weights = tensor::as_left(weight[0], weight[1]);
#pragma unroll
      for (int c = 0; c < H::columns; ++c) multiply_add(sum[c], weights, values.right(j, c * 8));
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int t = own_first + lane / 4 + 8 * h;
    if (t >= length) continue;
    BFloat16* out = of.out.data + (place.sequence + t) * of.out.stride + head_column;
#pragma unroll
    for (int b = 0; b < H::columns; ++b) {
      const int c = b * 8 + lane % 4 * 2;
      if constexpr (Chunk >= 2) {
        if (c < Width)
          *reinterpret_cast<std::uint32_t*>(out + c) = tensor::pack(sum[b].value[2 * h], sum[b].value[2 * h + 1]);
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          if (c + i < Width) out[c + i] = __float2bfloat16_rn(sum[b].value[2 * h + i]);
      }
    }
  }
}

inline constexpr int pair_threads = 2 * lag_tile;  ///< a warp takes 16 queries

/// Partial sums of dh. Grid: (windows, heads, shares).
template <int Width, int Chunk>
__global__ void __launch_bounds__(pair_threads)
    correlate(View<const BFloat16> q, View<const BFloat16> k, View<const BFloat16> v, View<const BFloat16> dy,
              Partial partial, int batch, int length) {
  using Rows = tensor::Tile<lag_tile, Head<Width>::padded>;
  struct Tiles {
    Rows queries, keys, values, gradients;
  };
  union Memory {
    Tiles tiles;
    Products products;
  };
  __shared__ alignas(16) Memory memory;
  Tiles& tiles = memory.tiles;
  const int which = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  tensor::Sums total[lag_tile / 8];
  for (int b = static_cast<int>(blockIdx.z); b < batch; b += static_cast<int>(gridDim.z)) {
    const std::size_t sequence = static_cast<std::size_t>(b) * length;
    const auto load_tile = [&](Rows& to, const View<const BFloat16>& x, int first) {
      load_rows<Width, Chunk, pair_threads>(to, x.data + sequence * x.stride + head * Width, x.stride, first, length);
    };
    for (int t0 = which * lag_tile; t0 < length; t0 += lag_tile) {
      const int s0 = t0 - which * lag_tile;
      __syncthreads();
      load_tile(tiles.queries, q, t0);
      load_tile(tiles.gradients, dy, t0);
      load_tile(tiles.keys, k, s0);
      load_tile(tiles.values, v, s0);
      __syncthreads();
      const Rows16<Width> query(tiles.queries, own);
      const Rows16<Width> gradient(tiles.gradients, own);
#pragma unroll
      for (int j = 0; j < lag_tile / 8; ++j) {
        const tensor::Sums score = query.with(tiles.keys, j * 8);
        const tensor::Sums d_weight = gradient.with(tiles.values, j * 8);
#pragma unroll
        for (int i = 0; i < 4; ++i) total[j].value[i] += score.value[i] * d_weight.value[i];
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < lag_tile / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      memory.products[own + lane / 4 + i / 2 * 8][j * 8 + lane % 4 * 2 + i % 2] = total[j].value[i];
  __syncthreads();
  toeplitz::store_diagonals<pair_threads>(memory.products,
                                          partial.memory + partial.offset(static_cast<int>(blockIdx.z), which, head));
}

/// `Chunk` neighbouring channels of every head can be read and written at once.
template <int Width, int Chunk, int Count>
void launch_sums(Queue& queue, const toeplitz::SumList<BFloat16, Count>& sums, const Filter& filter,
                 const Shape& shape) {
  queue.launch("Toeplitz attention", sum_positions<Width, Chunk, Count>,
               toeplitz::grid(Head<Width>::rows, Count, filter.heads, shape), dim3(Head<Width>::threads), 0, sums,
               filter);
}

template <int Width, int Chunk>
void launch_correlation(Queue& queue, View<const BFloat16> q, View<const BFloat16> k, View<const BFloat16> v,
                        View<const BFloat16> dy, const Partial& partial, const Shape& shape) {
  const dim3 grid(static_cast<unsigned>(partial.windows), static_cast<unsigned>(partial.heads),
                  static_cast<unsigned>(partial.shares));
  queue.launch("the filter's gradient of Toeplitz attention", correlate<Width, Chunk>, grid, dim3(pair_threads), 0, q,
               k, v, dy, partial, shape.batch, shape.length);
}

}  // namespace mad::cuda::toeplitz_tensor
