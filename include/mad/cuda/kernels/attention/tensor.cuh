// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention in bfloat16 on the tensor cores (Dao 2023, arXiv 2307.08691), for heads of more than 16 channels;
/// see narrow.cuh for others.
///
/// What bounds the products is how fast their factors come from shared memory, so that a warp owns 32 queries where
/// there are enough of them: each right factor that it reads serves two products. Scores and exponentials never leave
/// its registers. The next keys are on their way while it computes, and a multiprocessor has room for two blocks, one
/// of which multiplies while the other takes exponentials.
#pragma once

#include <mad/cuda/kernels/attention/tensor_rows.cuh>

#include <type_traits>

namespace mad::cuda::attention_tensor {

/// `Blocks` of 16 queries per warp.
template <int Width, int Blocks>
struct Forward {
  using H = Head<Width>;
  static constexpr int rows = 16 * Blocks * warps;
  static constexpr int tile = 64;                      ///< keys that arrive together
  static constexpr int at_once = Width <= 32 ? 3 : 2;  ///< blocks per multiprocessor

  union Memory {
    struct {
      Tile<rows, H::channels> queries;
      struct {
        Tile<tile, H::channels> keys;
        Tile<tile, H::channels> values;
      } stage[2];
    };
    float staging[rows * staging_stride<Width>];
  };
};

/// The softmax of a warp's scores as they arrive: per row the base of its powers of two, and the sum of those that this
/// lane has.
template <int Blocks>
struct Softmax {
  float base[Blocks][2];
  float sum[Blocks][2];

  __device__ Softmax() {
#pragma unroll
    for (int m = 0; m < Blocks; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        base[m][h] = -1e30f;  // not infinite: 2^(-inf - base) = 0 while nothing is seen
        sum[m][h] = 0;
      }
  }

  /// Raises the bases of 16 rows where scores are far above; what was mixed before shrinks then. A base need not be the
  /// largest score: terms of up to 2^8 are as exact as those up to 1.
  template <int Scores, int Columns>
  __device__ void raise(int m, const Sums (&score)[Scores], float factor, Sums (&mixed)[Columns]) {
    float top[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < Scores; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) top[i / 2] = fmaxf(top[i / 2], score[j].value[i]);
    float next[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 1));
      top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 2)) * factor;
      next[h] = top[h] > base[m][h] + 8 ? top[h] : base[m][h];
    }
    if (__all_sync(0xffffffffu, next[0] == base[m][0] && next[1] == base[m][1]) != 0) return;
    float shrink[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      shrink[h] = tensor::power_of_two(base[m][h] - next[h]);
      base[m][h] = next[h];
      sum[m][h] *= shrink[h];
    }
#pragma unroll
    for (int c = 0; c < Columns; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) mixed[c].value[i] *= shrink[i / 2];
  }

  /// The terms of eight scores of 16 rows.
  __device__ void take(int m, Sums& score, float factor) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      score.value[i] = tensor::power_of_two(score.value[i] * factor - base[m][i / 2]);
      sum[m][i / 2] += score.value[i];
    }
  }
};

/// o_t = sum_s p[t,s] v_s and the log-sum-exp of the scores. The keys are turned already, the queries are not. Grid:
/// see `Place`.
template <int Width, int Blocks>
__global__ void __launch_bounds__(threads, Forward<Width, Blocks>::at_once)
    forward(AttentionSizes n, Operands of, BFloat16* o, std::size_t o_stride, float* lse, std::size_t lse_stride) {
  using F = Forward<Width, Blocks>;
  using H = Head<Width>;
  extern __shared__ Line lines[];
  typename F::Memory& memory = *reinterpret_cast<typename F::Memory*>(lines);
  const Place place(n.heads);
  if (place.sequence >= n.batch) return;
  const int head = place.head;
  const int kv_head = head / (n.heads / n.kv_heads);
  const std::size_t sequence = static_cast<std::size_t>(place.sequence) * n.length;
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * F::rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16 * Blocks;
  const BFloat16* q = of.q + sequence * of.q_stride + head * Width;
  const BFloat16* k = of.k + sequence * of.k_stride + kv_head * Width;
  const BFloat16* v = of.v + sequence * of.v_stride + kv_head * Width;
  const int begin = max(0, first - n.window) / F::tile * F::tile;
  const int end = min(first + F::rows, n.length);
  const auto fetch_tile = [&](int s0) {
    auto& [keys, values] = memory.stage[s0 / F::tile % 2];
    fetch<Width>({&keys, &values}, {k, v}, {of.k_stride, of.v_stride}, s0, end);
    commit_copies();
  };
  fetch_tile(begin);
  load_queries<Width>(memory.queries, q, of.q_stride, first, n.length, n.rotation(), nullptr, 0);

  const float factor = n.scale * log2_e;  // powers of two are what the hardware computes
  Softmax<Blocks> softmax;
  Sums mixed[Blocks][H::columns];
  for (int s0 = begin; s0 < end; s0 += F::tile) {
    wait_for_copies<0>();
    __syncthreads();
    if (s0 + F::tile < end) fetch_tile(s0 + F::tile);
    const int distance = first + own - s0;
    if (!some_seen<16 * Blocks, F::tile>(distance, n.window)) continue;
    const auto& [keys, values] = memory.stage[s0 / F::tile % 2];
    Sums score[Blocks][F::tile / 8];
    multiply_rows<H::depths>(score, memory.queries, own, keys);
    if (!all_seen<16 * Blocks, F::tile>(distance, n.window)) hide_unseen<false>(score, distance, n.window);
#pragma unroll
    for (int m = 0; m < Blocks; ++m) softmax.raise(m, score[m], factor, mixed[m]);
#pragma unroll
    for (int j = 0; j < F::tile / 8; j += 2) {
      Left<16> p[Blocks];
#pragma unroll
      for (int m = 0; m < Blocks; ++m) {
        softmax.take(m, score[m][j], factor);
        softmax.take(m, score[m][j + 1], factor);
        p[m] = tensor::as_left(score[m][j], score[m][j + 1]);
      }
#pragma unroll
      for (int c = 0; c < H::depths; ++c) {
        Right<16> value[2];
        values.right(j * 8, c, value);
#pragma unroll
        for (int b = 0; b < 2; ++b)
#pragma unroll
          for (int m = 0; m < Blocks; ++m) multiply_add(mixed[m][2 * c + b], p[m], value[b]);
      }
    }
  }

  float share[Blocks][2];
#pragma unroll
  for (int m = 0; m < Blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int t = first + own + m * 16 + h * 8 + lane / 4;
      const float sum = lane_sum<4>(softmax.sum[m][h]);
      share[m][h] = 1.0f / sum;
      if (lane % 4 == 0 && t < n.length)
        lse[(sequence + t) * lse_stride + head] = (softmax.base[m][h] + log2f(sum)) / log2_e;
    }
  __syncthreads();  // no warp reads tiles any more
  store_rows<Width>(mixed, share, memory.staging + own * staging_stride<Width>, o + sequence * o_stride + head * Width,
                    o_stride, first + own, n.length, Rotation{});
}

}  // namespace mad::cuda::attention_tensor

namespace mad::cuda {

/// As `attention_forward`, on the tensor cores; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_forward_tensor(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                              View<const BFloat16> v, View<BFloat16> o, View<float> lse) {
  namespace a = attention_tensor;
  const a::Operands of = a::with_turned_keys<Width>(queue, n, a::Operands(q, k, v));
  const auto launch = [&](auto blocks) {
    using F = a::Forward<Width, blocks()>;
    const dim3 grid = a::grid(queue, n.heads * n.batch, (n.length + F::rows - 1) / F::rows, F::at_once);
    queue.launch("attention", a::forward<Width, blocks()>, grid, dim3(a::threads), sizeof(typename F::Memory), n, of,
                 o.data, o.stride, lse.data, lse.stride);
  };
  if (a::fills(queue, n, a::Forward<Width, 2>::rows))
    launch(std::integral_constant<int, 2>{});
  else
    launch(std::integral_constant<int, 1>{});
}

}  // namespace mad::cuda
