// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What both kinds of kernels of attention under a Toeplitz mask share: the sums they compute, the filter, and the
/// filter's gradient from sums along diagonals.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>

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

/// Shares of \p items things, about \p wanted, that are as even as can be.
inline Index even_shares(Index items, Index wanted) {
  const Index each = (items + std::clamp<Index>(wanted, 1, items) - 1) / std::clamp<Index>(wanted, 1, items);
  return (items + each - 1) / each;
}

/// Partial sums of dh[j] = sum over batch and t of a[t,t-j] p[t,t-j], a = q k^T, p = dy v^T: (shares, windows of lags,
/// heads, numbers). A window begins some lags before its own, which it also adds to.
struct Partial {
  int shares;
  int windows;
  int heads;
  int lags;    ///< of a window
  int before;  ///< further numbers of a window; lag `lags` w + i is number `before` + i of window w
  float* memory;

  Partial(Queue& queue, Index shares_, int windows_, int heads_, int lags_, int before_)
      : shares(static_cast<int>(shares_)),
        windows(windows_),
        heads(heads_),
        lags(lags_),
        before(before_),
        memory(queue.take<float>(static_cast<Index>(offset(shares, 0, 0)))) {}

  __host__ __device__ std::size_t offset(int share, int which, int head) const {
    return ((static_cast<std::size_t>(share) * windows + which) * heads + head) *
           static_cast<std::size_t>(before + lags);
  }
};

inline constexpr int finish_lanes = 32;
inline constexpr int finish_groups = 8;

/// Adds the shares of both windows of a lag to dh, and those of lag 0 to d_skip. Grid: (tiles of 32 lags, heads).
template <class U>
__global__ void __launch_bounds__(finish_lanes* finish_groups)
    finish(Partial partial, U* dh, std::size_t dh_stride, U* d_skip, int length) {
  __shared__ float part[finish_groups][finish_lanes];
  const int lag = static_cast<int>(blockIdx.x * finish_lanes + threadIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int which = lag / partial.lags;
  const int inside = lag % partial.lags;
  const int of_next = inside - partial.lags + partial.before;
  float sum = 0;
  if (lag < length) {
    for (int share = static_cast<int>(threadIdx.y); share < partial.shares; share += finish_groups) {
      sum += partial.memory[partial.offset(share, which, head) + partial.before + inside];
      if (of_next > 0 && which + 1 < partial.windows)
        sum += partial.memory[partial.offset(share, which + 1, head) + of_next];
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
