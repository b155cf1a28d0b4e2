// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention under a Toeplitz mask in float, whatever is stored, for heads of any width.
#pragma once

#include <mad/cuda/kernels/attention/exact.cuh>
#include <mad/cuda/kernels/toeplitz_attention/filter.cuh>

#include <bit>

namespace mad::cuda::toeplitz_exact {

using attention_exact::load_tile;
using attention_exact::threads;
using toeplitz::Filter;
using toeplitz::Partial;

/// Where a block works: `Rows` rows of one head of one sequence. Grid: (tiles of rows times Count, heads, batch).
struct Place {
  int head;
  int first;  ///< its first row
  std::size_t sequence;

  template <int Rows, int Count>
  static __device__ Place of_block(bool ahead, int length) {
    const int order = static_cast<int>(blockIdx.x) / Count;
    const int tiles = static_cast<int>(gridDim.x) / Count;
    const int tile = ahead ? order : tiles - 1 - order;  // the longest sums begin first
    return {static_cast<int>(blockIdx.y), tile * Rows, std::size_t{blockIdx.z} * length};
  }
};

/// The part of a head's filter that `Rows` rows from `first` and `Keys` keys from `s0` need: the factor of row r and
/// key j at r - j + Keys - 1.
template <int Rows, int Keys, int Threads>
__device__ void load_factors(float (&to)[Rows + Keys], const Filter& filter, int head, int first, int s0, bool ahead) {
  for (int i = static_cast<int>(threadIdx.x); i < Rows + Keys - 1; i += Threads) {
    const int distance = first - s0 + i - (Keys - 1);
    to[i] = filter(head, ahead ? -distance : distance);
  }
}

inline dim3 grid(int rows, int sums, int heads, const Shape& shape) {
  return dim3(static_cast<unsigned>((shape.length + rows - 1) / rows * sums), static_cast<unsigned>(heads),
              static_cast<unsigned>(shape.batch));
}

/// As for softmax attention; fewer keys pass at a time where heads are wide.
template <int Width>
struct Head : attention_exact::Head<Width> {
  static constexpr int tile = static_cast<int>(std::bit_floor(static_cast<unsigned>(std::clamp(2048 / Width, 1, 64))));
};

/// Sums over positions; a team of lanes takes a row.
template <int Width, int Count, class T>
__global__ void __launch_bounds__(threads)
    sum_positions(const __grid_constant__ toeplitz::SumList<T, Count> sums, Filter filter) {
  using H = Head<Width>;
  constexpr int unroll = H::tile < 4 ? 1 : 4;
  __shared__ float keys[H::tile][Width];
  __shared__ float values[H::tile][Width];
  __shared__ float factors[H::teams + H::tile];
  const toeplitz::Sum<T>& of = sums.sum[blockIdx.x % Count];
  const int length = filter.length;
  const Place place = Place::of_block<H::teams, Count>(of.ahead, length);
  const int team = static_cast<int>(threadIdx.x) / H::lanes;
  const int channel = static_cast<int>(threadIdx.x) % H::lanes * H::own;
  const int t = place.first + team;
  const bool here = t < length;
  const int head_column = place.head * Width;
  const T* key = of.key.data + place.sequence * of.key.stride + head_column;
  const T* value = of.value.data + place.sequence * of.value.stride + head_column;
  const T* query_row = of.query.data + (place.sequence + (here ? t : 0)) * of.query.stride + head_column + channel;
  float query[H::own];
  float sum[H::own]{};
#pragma unroll
  for (int i = 0; i < H::own; ++i) query[i] = here ? to_float(query_row[i]) : 0.0f;
  const int begin = of.ahead ? place.first : 0;
  const int end = of.ahead ? length : min(place.first + H::teams, length);
  for (int s0 = begin; s0 < end; s0 += H::tile) {
    __syncthreads();
    load_tile<Width, H::tile>(keys, key, of.key.stride, s0, length, nullptr, 1.0f);
    load_tile<Width, H::tile>(values, value, of.value.stride, s0, length, nullptr, 1.0f);
    load_factors<H::teams, H::tile, threads>(factors, filter, place.head, place.first, s0, of.ahead);
    __syncthreads();
#pragma unroll unroll
    for (int j = 0; j < H::tile; ++j) {
      const float weight = H::dot(query, &keys[j][channel]) * factors[team - j + H::tile - 1];
#pragma unroll
      for (int i = 0; i < H::own; ++i) sum[i] += weight * values[j][channel + i];
    }
  }
  if (!here) return;
  T* out = of.out.data + (place.sequence + t) * of.out.stride + head_column + channel;
#pragma unroll
  for (int i = 0; i < H::own; ++i) out[i] = from_float<T>(sum[i]);
}

// The filter's gradient: a block takes all pairs of a tile of queries and a tile of keys that lie the same number of
// tiles apart, in a share of the sequences, and adds up a * p number by number. Only the sum's diagonals are added up,
// at the end. Each lag lies in two such windows of 2 `lag_tile` - 1 lags.

inline constexpr int lag_tile = 64;

/// Sums of a * p, padded so that diagonals and rows lie in different banks.
using Products = float[lag_tile][lag_tile + 1];

/// The sums of the diagonals, in a fixed order. Lag i - lag_tile of the window goes to number i; number 0 has none.
template <int Threads>
__device__ void store_diagonals(const Products& products, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < 2 * lag_tile; i += Threads) {
    const int lag = i - lag_tile;
    float sum = 0;
    for (int c = max(0, -lag); c < min(lag_tile, lag_tile - lag); ++c) sum += products[c + lag][c];
    to[i] = sum;
  }
}

/// Channels [c, c + Slice) of `lag_tile` rows of a head, transposed; 0 outside.
template <int Width, int Slice, int Threads, class T>
__device__ void load_slice(float (&to)[Slice][lag_tile + 4], const T* from, std::size_t stride, int first, int length,
                           int c) {
  for (int i = static_cast<int>(threadIdx.x); i < lag_tile * Slice; i += Threads) {
    const int r = i / Slice;
    const int channel = c + i % Slice;
    const bool here = first + r < length && (Width % Slice == 0 || channel < Width);
    to[i % Slice][r] = here ? to_float(from[static_cast<std::size_t>(first + r) * stride + channel]) : 0.0f;
  }
}

inline constexpr int pair_threads = 256;  ///< each takes 4 x 4 pairs of a query and a key

/// x[i][j] += rows[c][row + i] columns[c][column + j], summed over the slice.
template <int Slice>
__device__ void add_products(float (&x)[4][4], const float (&rows)[Slice][lag_tile + 4], int row,
                             const float (&columns)[Slice][lag_tile + 4], int column) {
#pragma unroll 4
  for (int c = 0; c < Slice; ++c) {
    float a[4];
    float b[4];
    load(&rows[c][row], a);
    load(&columns[c][column], b);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) x[i][j] += a[i] * b[j];
  }
}

/// Partial sums of dh. Grid: (windows, heads, shares).
template <int Width, class T>
__global__ void __launch_bounds__(pair_threads) correlate(View<const T> q, View<const T> k, View<const T> v,
                                                          View<const T> dy, Partial partial, int batch, int length) {
  constexpr int slice = Width < 16 ? Width : 16;
  struct Slices {
    float queries[slice][lag_tile + 4], keys[slice][lag_tile + 4];
    float gradients[slice][lag_tile + 4], values[slice][lag_tile + 4];
  };
  union Memory {
    Slices slices;
    Products products;
  };
  __shared__ alignas(16) Memory memory;
  Slices& s = memory.slices;
  const int which = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(threadIdx.x) / 16 * 4;
  const int column = static_cast<int>(threadIdx.x) % 16 * 4;
  float total[4][4]{};
  for (int b = static_cast<int>(blockIdx.z); b < batch; b += static_cast<int>(gridDim.z)) {
    const std::size_t sequence = static_cast<std::size_t>(b) * length;
    const auto of_head = [&](const View<const T>& x) { return x.data + sequence * x.stride + head * Width; };
    for (int t0 = which * lag_tile; t0 < length; t0 += lag_tile) {
      const int s0 = t0 - which * lag_tile;
      float score[4][4]{};
      float d_weight[4][4]{};
      for (int c = 0; c < Width; c += slice) {
        __syncthreads();
        load_slice<Width, slice, pair_threads>(s.queries, of_head(q), q.stride, t0, length, c);
        load_slice<Width, slice, pair_threads>(s.gradients, of_head(dy), dy.stride, t0, length, c);
        load_slice<Width, slice, pair_threads>(s.keys, of_head(k), k.stride, s0, length, c);
        load_slice<Width, slice, pair_threads>(s.values, of_head(v), v.stride, s0, length, c);
        __syncthreads();
        add_products(score, s.queries, row, s.keys, column);
        add_products(d_weight, s.gradients, row, s.values, column);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) total[i][j] += score[i][j] * d_weight[i][j];
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) memory.products[row + i][column + j] = total[i][j];
  __syncthreads();
  store_diagonals<pair_threads>(memory.products,
                                partial.memory + partial.offset(static_cast<int>(blockIdx.z), which, head));
}

template <int Width, int Count, class T>
void launch_sums(Queue& queue, const toeplitz::SumList<T, Count>& sums, const Filter& filter, const Shape& shape) {
  queue.launch("Toeplitz attention", sum_positions<Width, Count, T>,
               grid(Head<Width>::teams, Count, filter.heads, shape), dim3(threads), 0, sums, filter);
}

template <int Width, class T>
Partial launch_correlation(Queue& queue, View<const T> q, View<const T> k, View<const T> v, View<const T> dy, int heads,
                           const Shape& shape) {
  const int windows = static_cast<int>((shape.length + lag_tile - 1) / lag_tile);
  // Enough blocks to even out that windows of long lags hold fewer pairs; two sequences for each where there are some.
  const Index wanted = 16 * queue.multiprocessors() / (Index{windows} * heads);
  const Index shares = std::clamp<Index>(wanted, 1, (shape.batch + 1) / 2);
  const Partial partial(queue, shares, windows, heads, lag_tile, lag_tile);
  const dim3 grid(static_cast<unsigned>(windows), static_cast<unsigned>(heads), static_cast<unsigned>(shares));
  queue.launch("the filter's gradient of Toeplitz attention", correlate<Width, T>, grid, dim3(pair_threads), 0, q, k, v,
               dy, partial, shape.batch, shape.length);
  return partial;
}

}  // namespace mad::cuda::toeplitz_exact
