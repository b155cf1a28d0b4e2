// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What both kinds of kernels of attention under a Toeplitz mask share: the sums they compute, the filter, and the
/// filter's gradient from sums along diagonals.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/numbers.cuh>
#include <mad/cuda/queue.hpp>

#include <algorithm>

namespace mad::cuda::toeplitz {

/// f (positions, heads): h with skip added to f[0].
struct Filter {
  const float* h;
  std::size_t stride;
  const float* skip;
  int length;
  int heads;

  /// f[lag] of a head; 0 where one position does not see the other.
  __device__ float operator()(int head, int lag) const {
    if (lag < 0 || lag >= length) return 0.0f;
    const float tap = h[static_cast<std::size_t>(lag) * stride + head];
    return lag == 0 ? tap + skip[head] : tap;
  }
};

/// One sum over positions, out_t = sum_s f[|t-s|] (query_t.key_s) value_s, over s <= t or, where it looks ahead, s >=
/// t. The result and the gradients of q, k and v are all such sums:
///
///     y_t  = sum_{s<=t} f[t-s] (q_t.k_s) v_s        dk_s = sum_{t>=s} f[t-s] (v_s.dy_t) q_t
///     dq_t = sum_{s<=t} f[t-s] (dy_t.v_s) k_s       dv_s = sum_{t>=s} f[t-s] (k_s.q_t) dy_t
template <class T>
struct Sum {
  View<const T> query, key, value;
  View<T> out;
  bool ahead;
};

/// Sums that one launch computes; block x takes sum x mod Count.
template <class T, int Count>
struct SumList {
  Sum<T> sum[Count];
};

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

// dh[j] = sum over batch and t of a[t,t-j] p[t,t-j], a = q k^T, p = dy v^T: a block takes all pairs of a tile of
// queries and a tile of keys that lie the same number of tiles apart, in a share of the sequences, and adds up a * p
// number by number. Only the sum's diagonals are added up, at the end. Each lag lies in two such windows of 2
// `lag_tile` - 1 lags.

inline constexpr int lag_tile = 64;
inline constexpr int window = 2 * lag_tile;  ///< numbers kept per window; the last is not used

/// Sums of a * p, padded so that diagonals and rows lie in different banks.
using Products = float[lag_tile][lag_tile + 1];

/// Partial sums (shares, windows, heads, `window`).
struct Partial {
  float* memory;
  int windows;
  int shares;
  int heads;

  __host__ __device__ std::size_t offset(int share, int which, int head) const {
    return ((static_cast<std::size_t>(share) * windows + which) * heads + head) * window;
  }
};

inline Partial take_partial(Queue& queue, const Shape& shape, int heads) {
  Partial p{nullptr, static_cast<int>((shape.length + lag_tile - 1) / lag_tile), 1, heads};
  // Enough blocks to even out that windows of long lags hold fewer pairs; two sequences for each where there are some.
  const Index wanted = 16 * queue.multiprocessors() / (Index{p.windows} * heads);
  p.shares = static_cast<int>(std::clamp<Index>(wanted, 1, (shape.batch + 1) / 2));
  p.memory = queue.take<float>(static_cast<Index>(p.offset(p.shares, 0, 0)));
  return p;
}

/// The sums of the diagonals, in a fixed order. Lag i - (lag_tile - 1) of the window goes to number i.
template <int Threads>
__device__ void store_diagonals(const Products& products, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < window - 1; i += Threads) {
    const int lag = i - (lag_tile - 1);
    float sum = 0;
    for (int c = max(0, -lag); c < min(lag_tile, lag_tile - lag); ++c) sum += products[c + lag][c];
    to[i] = sum;
  }
}

inline constexpr int finish_lanes = 32;
inline constexpr int finish_groups = 8;

/// Adds the shares of both windows of a lag to dh, and those of lag 0 to d_skip. Grid: (tiles of 32 lags, heads).
template <class U>
__global__ void __launch_bounds__(finish_lanes* finish_groups)
    finish(Partial partial, U* dh, std::size_t dh_stride, U* d_skip, int length) {
  __shared__ float part[finish_groups][finish_lanes];
  const int lag = static_cast<int>(blockIdx.x * finish_lanes + threadIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int which = lag / lag_tile;
  const int inside = lag % lag_tile;
  float sum = 0;
  if (lag < length) {
    for (int share = static_cast<int>(threadIdx.y); share < partial.shares; share += finish_groups) {
      sum += partial.memory[partial.offset(share, which, head) + inside + lag_tile - 1];
      if (inside > 0 && which + 1 < partial.windows)
        sum += partial.memory[partial.offset(share, which + 1, head) + inside - 1];
    }
  }
  part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || lag >= length) return;
  sum = 0;
#pragma unroll
  for (int g = 0; g < finish_groups; ++g) sum += part[g][threadIdx.x];
  dh[static_cast<std::size_t>(lag) * dh_stride + head] += sum;
  if (lag == 0) d_skip[head] += sum;
}

template <class U>
void add_filter_gradient(Queue& queue, const Partial& partial, View<U> dh, U* d_skip, Index length) {
  const dim3 grid(static_cast<unsigned>((length + finish_lanes - 1) / finish_lanes),
                  static_cast<unsigned>(partial.heads));
  queue.launch("the filter's gradient of Toeplitz attention", finish<U>, grid, dim3(finish_lanes, finish_groups), 0,
               partial, dh.data, dh.stride, d_skip, length);
}

}  // namespace mad::cuda::toeplitz
