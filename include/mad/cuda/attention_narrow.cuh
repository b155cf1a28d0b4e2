// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention in bfloat16 for narrow heads, of 8 or 16 channels. Their products are so short that the
/// exponentials take the time: everything here keeps the special functions and the multipliers free for them.
///
/// - Queries carry scale log2(e), rounded with them to bfloat16, and the products for the scores start at minus a
///   bound of their row's scores: what they end in are the exponents themselves.
/// - The bound is |q_t| max_s |k_s| (Cauchy and Schwarz) where that is small, so that there is no running maximum.
///   Where it is not, the largest score is found first, by products alone.
/// - The terms are summed by the tensor cores, as products with ones.
/// - Some powers of two are computed by the multipliers.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/attention_narrow_rows.cuh>
#include <mad/cuda/queue.hpp>

#include <cstddef>
#include <cstdint>

namespace mad::cuda::attention_narrow {

/// Rows of keys in shared memory, for all heads of a block.
template <int Width>
inline constexpr int forward_capacity = 8192 / Width;
/// Queries of a block.
inline constexpr int forward_queries = 1024;
/// Where no score is larger than this, in powers of two, terms and sums are exact with the bound for a base: they are
/// at least 2^(-2 bound).
inline constexpr float largest_bound = 40;

/// Terms of which of eight neighbouring registers are computed by the multipliers: 40 cycles of the special functions
/// for 16 x 16 scores, and 36 instructions.
__device__ constexpr bool is_by_cubic(int i) { return i == 1 || i == 4 || i == 6; }

/// 32 queries of a warp, on their way past the keys. A lane holds numbers of rows lane / 4 + 8 i.
template <int Width>
struct Queries {
  Left<Width> query[2];
  Sums minus_base[2];  ///< what the scores start from
  Sums mixed[2][Width / 8];
  Sums sum[2];

  /// Takes up 32 rows of shared memory.
  __device__ void take(const BFloat16* rows) {
    Matrices<Width> m[2];
    load_twice<false>(rows, 16 * stride<Width>, m);
    query[0] = m[0].left();
    query[1] = m[1].left();
  }

  /// Sets the base of rows 16 m + lane / 4 + 8 half to `bound`, if that is more. Nothing `is_mixed` yet where they meet
  /// their first keys. Each number gets its own copy, so that the sums can start from registers as they are.
  __device__ void raise(int m, int half, float bound, bool is_mixed) {
#pragma unroll
    for (int i = 2 * half; i < 2 * half + 2; ++i) {
      if (is_mixed) {
        const float base = fmaxf(-minus_base[m].value[i], bound);
        const float shrink = tensor::power_of_two(-minus_base[m].value[i] - base);
        sum[m].value[i] *= shrink;
#pragma unroll
        for (int c = 0; c < Width / 8; ++c) mixed[m][c].value[i] *= shrink;
        minus_base[m].value[i] = -base;
      } else {
        minus_base[m].value[i] = -bound;
      }
    }
  }

  /// The largest scores of 32 keys. `distance` is that of the lane's first query from its first key.
  __device__ void find_largest(const BFloat16* keys, int distance, int window, float (&largest)[2][2]) const {
    Matrices<Width> key[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        Sums score;
        multiply_add(score, query[m], key[j / 2].right_of_rows(j % 2));
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (sees(distance + m * 16 + i / 2 * 8 - j * 8 - i % 2, window))
            largest[m][i / 2] = fmaxf(largest[m][i / 2], score.value[i]);
      }
  }

  /// Mixes the values of 32 keys in. Without Masked all queries see all of them, and no score is over the bound.
  template <bool Masked>
  __device__ void mix(const BFloat16* keys, const BFloat16* values, int distance, int window) {
    constexpr std::uint32_t two_ones = 0x3f803f80;
    Matrices<Width> key[2];
    Matrices<Width> value[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
    load_twice<true>(values, 16 * stride<Width>, value);
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        Sums p[2];
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          p[b] = minus_base[m];
          multiply_add(p[b], query[m], key[j].right_of_rows(b));
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& x = p[b].value[i];
            if constexpr (Masked)
              x = sees(distance + (m - j) * 16 + i / 2 * 8 - b * 8 - i % 2, window) ? tensor::power_of_two(x) : 0.0f;
            else
              x = is_by_cubic(b * 4 + i) ? tensor::power_of_two_by_cubic(x) : tensor::power_of_two(x);
          }
        }
        const Left<16> terms = tensor::as_left(p[0], p[1]);
#pragma unroll
        for (int c = 0; c < Width / 8; ++c) multiply_add(mixed[m][c], terms, value[j].right(c));
        multiply_add(sum[m], terms, Right<16>{{two_ones, two_ones}});
      }
  }

  /// The results of queries t0 and so on that are before `end`, to rows of a head.
  __device__ void store(BFloat16* o, std::size_t o_stride, float* lse, std::size_t lse_stride, int t0, int end) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first = t0 + lane / 4;
    o += static_cast<std::size_t>(first) * o_stride + lane % 4 * 2;
    lse += static_cast<std::size_t>(first) * lse_stride;
#pragma unroll
    for (int row = 0; row < 4; ++row, o += 8 * o_stride, lse += 8 * lse_stride) {
      if (first + row * 8 >= end) break;
      const int i = row % 2 * 2;
      const float total = sum[row / 2].value[i];
      const float share = tensor::reciprocal(total);
#pragma unroll
      for (int c = 0; c < Width / 8; ++c)
        *reinterpret_cast<std::uint32_t*>(o + c * 8) =
            tensor::pack(mixed[row / 2][c].value[i] * share, mixed[row / 2][c].value[i + 1] * share);
      if (lane % 4 == 0) *lse = (tensor::logarithm_to_two(total) - minus_base[row / 2].value[i]) * (1 / log2_e);
    }
  }
};

/// Keys, turned, and values [first, end) of the block's heads to shared memory; `k` and `v` are the first rows of the
/// sequence, at the channels of the thread's head. Returns the norm of the longest key. `scratch` is shared memory.
template <int Width>
__device__ float load_keys(BFloat16* keys, BFloat16* values, const BFloat16* k, const BFloat16* v, const Operands& of,
                           int first, int end, const Share& share, const Rotation& rotation, float (&scratch)[warps]) {
  const Part part(share);
  copy_rows<Width>(keys, k, of.k_stride, values, v, of.v_stride, first, end, share);
  turn_rows<Width>(keys, first, end, 1.0f, share, rotation);
  float square = 0;
  for (int r = part.first; first + r < end; r += part.apart) {
    const auto row = Row<Width>::at(keys + (part.slot * share.rows + r) * stride<Width>);
    square = fmaxf(square, row.dot(row));
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) square = fmaxf(square, __shfl_xor_sync(0xffffffffu, square, offset));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = square;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < warps; ++w) square = fmaxf(square, scratch[w]);
  return tensor::square_root(square);
}

/// o_t = sum_s p[t,s] v_s and the log-sum-exp of the scores. A warp computes 32 queries at a time, of which a head's
/// warps take turns in alternating directions: later queries have more to do. Grid: (blocks of queries, groups of
/// heads, batch).
template <int Width>
__global__ void __launch_bounds__(threads, Width == 8 ? 3 : 2)
    forward(AttentionSizes n, Share share, Operands of, BFloat16* o, std::size_t o_stride, float* lse,
            std::size_t lse_stride) {
  extern __shared__ float4 dynamic_memory[];
  __shared__ float scratch[warps];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int slot = share.head_of(warp);
  const int place = share.place_of(warp);
  const int first_head = static_cast<int>(blockIdx.y) << share.shift;
  const int head = first_head + slot;
  const int loaded_head = (first_head + Part(share).slot) / (n.heads / n.kv_heads);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const BFloat16* q = of.q + sequence * of.q_stride + head * Width;
  const BFloat16* k = of.k + sequence * of.k_stride + loaded_head * Width;
  const BFloat16* v = of.v + sequence * of.v_stride + loaded_head * Width;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * forward_queries;  // the longest rows begin first
  const int last = min(first + forward_queries, n.length);
  const int at_once = 32 * share.head_warps();  // queries of a head
  const Rotation rotation = n.rotation();
  const float factor = n.scale * log2_e;  // powers of two are what the hardware computes
  auto* keys = reinterpret_cast<BFloat16*>(dynamic_memory);
  BFloat16* values = keys + share.all_rows() * stride<Width>;
  BFloat16* own = values + share.all_rows() * stride<Width> + warp * 32 * stride<Width>;
  // The queries of a warp are on their way to shared memory while it computes others.
  const auto fetch = [&](int t) {
    copy_row<Width>(own + lane * stride<Width>, q + static_cast<std::size_t>(t + lane) * of.q_stride, t + lane < last);
    commit_copies();
  };
  int t0 = first + 32 * place;
  fetch(t0);
  int loaded = -1;  // first key in shared memory
  float key_norm = 0;
  for (int begin = first, turn = 0; begin < last; begin += at_once, turn ^= 1) {
    const int next = begin + at_once + 32 * (turn == 0 ? share.head_warps() - 1 - place : place);
    const int end = min(begin + at_once, last);
    const int earliest = max(0, begin - n.window);
    float query_norm = 0;
    Queries<Width> queries;
    bool is_mixed = false;
    const int first_chunk = earliest < share.rows ? 0 : earliest / share.rows * share.rows;
    for (int chunk = first_chunk; chunk < end; chunk += share.rows) {
      if (chunk != loaded) {
        __syncthreads();
        loaded = chunk;
        key_norm =
            load_keys<Width>(keys, values, k, v, of, chunk, min(chunk + share.rows, last), share, rotation, scratch);
      }
      if (t0 >= last) continue;
      if (chunk == first_chunk) {
        wait_for_copies<0>();
        turn_row<Width>(own + lane * stride<Width>, min(t0 + lane, last - 1), factor, rotation);
        const auto row = Row<Width>::at(own + lane * stride<Width>);
        query_norm = tensor::square_root(row.dot(row)) * 1.001f;  // a bound, however it is rounded
        __syncwarp();
        queries.take(own);
        __syncwarp();
        if (next < last) fetch(next);
      }
      const int s_begin = max(chunk, max(0, t0 - n.window) / 32 * 32);
      const int s_end = min(min(chunk + share.rows, t0 + 32), last);
      if (s_begin >= s_end) continue;
      const BFloat16* key = keys + (slot * share.rows - chunk) * stride<Width>;
      const BFloat16* value = values + (slot * share.rows - chunk) * stride<Width>;
      const int distance = t0 + lane / 4 - lane % 4 * 2;
      const float bound = query_norm * key_norm;
      const bool bounded = __all_sync(0xffffffffu, bound <= largest_bound) != 0;
      float largest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
      if (!bounded)
        for (int s = s_begin; s < s_end; s += 32)
          queries.find_largest(key + s * stride<Width>, distance - s, n.window, largest);
#pragma unroll
      for (int row = 0; row < 4; ++row) {
        float base = __shfl_sync(0xffffffffu, bound, row * 8 + lane / 4);
        if (!bounded) {
          base = fmaxf(largest[row / 2][row % 2], __shfl_xor_sync(0xffffffffu, largest[row / 2][row % 2], 1));
          base = fmaxf(base, __shfl_xor_sync(0xffffffffu, base, 2));
        }
        queries.raise(row / 2, row % 2, base, is_mixed);
      }
      is_mixed = true;
      for (int s = s_begin; s < s_end; s += 32) {
        const int at = s * stride<Width>;
        if (bounded && s + 31 <= t0 && s >= t0 + 31 - n.window)
          queries.template mix<false>(key + at, value + at, distance - s, n.window);
        else
          queries.template mix<true>(key + at, value + at, distance - s, n.window);
      }
    }
    queries.store(o + sequence * o_stride + head * Width, o_stride, lse + sequence * lse_stride + head, lse_stride, t0,
                  last);
    t0 = next;
  }
}

}  // namespace mad::cuda::attention_narrow

namespace mad::cuda {

/// As `attention_forward`, for heads of 8 or 16 channels; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_forward_narrow(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                              View<const BFloat16> v, View<BFloat16> o, View<float> lse) {
  namespace a = attention_narrow;
  const a::Share share(n.heads, n.length, a::forward_capacity<Width>);
  const dim3 grid(static_cast<unsigned>((n.length + a::forward_queries - 1) / a::forward_queries),
                  static_cast<unsigned>(n.heads >> share.shift), static_cast<unsigned>(n.batch));
  const auto rows = static_cast<std::size_t>(2 * share.all_rows() + 32 * a::warps);
  queue.launch("attention", a::forward<Width>, grid, dim3(a::threads), rows * a::stride<Width> * sizeof(BFloat16), n,
               share, a::Operands(q, k, v), o.data, o.stride, lse.data, lse.stride);
}

}  // namespace mad::cuda
