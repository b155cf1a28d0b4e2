// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear attention of wide heads in bfloat16 on the tensor cores, over pairs of tokens as attention is: with states
/// of 128 x 128 numbers a pass over the state costs more than all pairs of a sequence of thousands of tokens.
///
///     P[t,s] = q_t . k_s for s <= t,   o_t = scale sum_s P[t,s] v_s,   n_t = scale sum_s P[t,s]
///     D[t,s] = do_t . v_s + dn_t,      dq_t = scale sum_s D[t,s] k_s,   dk_s = scale sum_t D[t,s] q_t,
///     dv_s = scale sum_t P[t,s] do_t
#pragma once

#include <mad/cuda/linear_recurrence_layout.cuh>
#include <mad/cuda/tensor_core.cuh>

namespace mad::cuda::recurrence_pairs {

using recurrence_detail::Decay;
using recurrence_detail::Side;
using tensor::Left;
using tensor::Sums;
using tensor::Tile;

using Operands = recurrence_detail::Operands<BFloat16, float, float>;

/// True for the recurrences that this form computes.
template <class S, class T>
inline constexpr bool fits = sizeof(T) == sizeof(BFloat16) && S::decay == Decay::none && !S::bonus
                             && S::group == 1 && S::key % 8 == 0 && S::value % 8 == 0 && S::key <= 128 &&
                             S::value <= 128 && S::key * S::value >= 2048;

inline constexpr int threads = 128;
inline constexpr int rows = 64;           ///< tokens of a block, 16 per warp
inline constexpr int forward_tile = 32;   ///< tokens that pass by at a time
inline constexpr int backward_tile = 16;  ///< in the backward pass

/// Rows [first, first + Rows) of a head, C numbers at a time; 0 behind the end of the sequence.
template <int C, int Rows, int Width>
__device__ inline void load_rows(Tile<Rows, Width>& to, const BFloat16* from, std::size_t stride, int first,
                                 int length) {
  using Part = mad::cuda::Chunk<BFloat16, C>;
  for (int i = static_cast<int>(threadIdx.x); i < Rows * (Width / C); i += threads) {
    const int r = i / (Width / C);
    const int c = i % (Width / C) * C;
    Part x;
    if (first + r < length) {
      x = *reinterpret_cast<const Part*>(from + static_cast<std::size_t>(first + r) * stride + c);
    } else {
#pragma unroll
      for (int j = 0; j < C; ++j) x.value[j] = __float2bfloat16_rn(0.0f);
    }
    *reinterpret_cast<Part*>(to.row(r) + c) = x;
  }
}

/// Products of 16 rows of `a` with 8 rows of `b`.
template <int Width, class A, class B>
__device__ inline Sums rows_with_rows(const A& a, int a_row, const B& b, int b_row) {
  constexpr int depth = Width % 16 == 0 ? 16 : 8;
  Sums s;
#pragma unroll
  for (int d = 0; d < Width; d += depth)
    multiply_add(s, a.template left<depth>(a_row, d), b.template right_of_rows<depth>(b_row, d));
  return s;
}

/// Row `half` (0: l / 4, 1: l / 4 + 8) of blocks of sums to memory.
template <int C, int Blocks>
__device__ inline void store_row(const Sums (&sums)[Blocks], int half, float scale, BFloat16* to) {
  to += static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int c = 0; c < Blocks; ++c) {
    const float x[2] = {scale * sums[c].value[2 * half], scale * sums[c].value[2 * half + 1]};
    if constexpr (C >= 2) {
      store(to + c * 8, x);
    } else {
      to[c * 8] = __float2bfloat16_rn(x[0]);
      to[c * 8 + 1] = __float2bfloat16_rn(x[1]);
    }
  }
}

/// A head of a side of one sequence.
struct Head {
  const BFloat16* data;
  std::size_t stride;
  __device__ Head(const Operands& o, Side side, std::size_t sequence, int head, int width)
      : data(o.side[static_cast<int>(side)] + sequence * o.stride[static_cast<int>(side)] + head * width),
        stride(o.stride[static_cast<int>(side)]) {}
};

/// Grid: (tiles of tokens, heads, batch).
template <class S>
__global__ void __launch_bounds__(threads)
    forward(Operands o, BFloat16* to, std::size_t to_stride, int length, float scale) {
  __shared__ Tile<rows, S::key> queries;
  __shared__ Tile<forward_tile, S::key> keys;
  __shared__ Tile<forward_tile, S::value> values;
  const int head = static_cast<int>(blockIdx.y);
  const std::size_t sequence = std::size_t{blockIdx.z} * length;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * rows;  // the longest rows begin first
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const Head q(o, Side::query, sequence, head, S::key);
  const Head k(o, Side::key, sequence, head, S::key);
  const Head v(o, Side::value, sequence, head, S::value);
  load_rows<S::key_chunk>(queries, q.data, q.stride, first, length);
  const int t[2] = {first + own + lane / 4, first + own + lane / 4 + 8};
  Sums mixed[S::value / 8];
  float sum[2] = {0, 0};
  const int end = min(first + rows, length);
  for (int s0 = 0; s0 < end; s0 += forward_tile) {
    __syncthreads();
    load_rows<S::key_chunk>(keys, k.data, k.stride, s0, length);
    load_rows<S::value_chunk>(values, v.data, v.stride, s0, length);
    __syncthreads();
    if (s0 > first + own + 15) continue;  // all later than this warp's tokens
#pragma unroll
    for (int j = 0; j < forward_tile / 8; j += 2) {
      Sums p[2];
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        p[b] = rows_with_rows<S::key>(queries, own, keys, (j + b) * 8);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (s0 + (j + b) * 8 + lane % 4 * 2 + i % 2 > t[i / 2]) p[b].value[i] = 0;
          sum[i / 2] += p[b].value[i];
        }
      }
      const Left<16> pairs = tensor::as_left(p[0], p[1]);
#pragma unroll
      for (int c = 0; c < S::value / 8; ++c) multiply_add(mixed[c], pairs, values.right(j * 8, c * 8));
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sum[h] = lane_sum<4>(sum[h]);
    if (t[h] >= length) continue;
    BFloat16* row = to + (sequence + t[h]) * to_stride;
    store_row<S::output_chunk>(mixed, h, scale, row + head * S::value);
    if (S::normaliser && lane % 4 == 0) row[S::heads * S::value + head] = __float2bfloat16_rn(scale * sum[h]);
  }
}

/// The gradient of the normaliser of token t; 0 where there is none.
template <class S>
__device__ inline float d_normaliser(const Operands& o, std::size_t sequence, int head, int t, int length) {
  if (!S::normaliser || t >= length) return 0;
  constexpr int side = static_cast<int>(Side::d_output);
  return to_float(o.side[side][(sequence + t) * o.stride[side] + S::heads * S::value + head]);
}

/// dq. Grid: (tiles of tokens, heads, batch).
template <class S>
__global__ void __launch_bounds__(threads)
    query_gradient(Operands o, BFloat16* to, std::size_t to_stride, int length, float scale) {
  __shared__ Tile<rows, S::value> gradients;
  __shared__ Tile<forward_tile, S::key> keys;
  __shared__ Tile<forward_tile, S::value> values;
  const int head = static_cast<int>(blockIdx.y);
  const std::size_t sequence = std::size_t{blockIdx.z} * length;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const Head k(o, Side::key, sequence, head, S::key);
  const Head v(o, Side::value, sequence, head, S::value);
  const Head d(o, Side::d_output, sequence, head, S::value);
  load_rows<S::output_chunk>(gradients, d.data, d.stride, first, length);
  const int t[2] = {first + own + lane / 4, first + own + lane / 4 + 8};
  const float d_sum[2] = {d_normaliser<S>(o, sequence, head, t[0], length),
                          d_normaliser<S>(o, sequence, head, t[1], length)};
  Sums d_query[S::key / 8];
  const int end = min(first + rows, length);
  for (int s0 = 0; s0 < end; s0 += forward_tile) {
    __syncthreads();
    load_rows<S::key_chunk>(keys, k.data, k.stride, s0, length);
    load_rows<S::value_chunk>(values, v.data, v.stride, s0, length);
    __syncthreads();
    if (s0 > first + own + 15) continue;
#pragma unroll
    for (int j = 0; j < forward_tile / 8; j += 2) {
      Sums d_p[2];
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        d_p[b] = rows_with_rows<S::value>(gradients, own, values, (j + b) * 8);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool seen = s0 + (j + b) * 8 + lane % 4 * 2 + i % 2 <= t[i / 2];
          d_p[b].value[i] = seen ? d_p[b].value[i] + d_sum[i / 2] : 0.0f;
        }
      }
      const Left<16> pairs = tensor::as_left(d_p[0], d_p[1]);
#pragma unroll
      for (int c = 0; c < S::key / 8; ++c) multiply_add(d_query[c], pairs, keys.right(j * 8, c * 8));
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (t[h] < length)
      store_row<S::key_gradient_chunk>(d_query, h, scale, to + (sequence + t[h]) * to_stride + head * S::key);
}

/// dk and dv. Grid: (tiles of tokens, heads, batch).
template <class S>
__global__ void __launch_bounds__(threads) key_gradient(Operands o, BFloat16* dk, std::size_t dk_stride, BFloat16* dv,
                                                        std::size_t dv_stride, int length, float scale) {
  __shared__ Tile<rows, S::key> keys;
  __shared__ Tile<rows, S::value> values;
  __shared__ Tile<backward_tile, S::key> queries;
  __shared__ Tile<backward_tile, S::value> gradients;
  __shared__ float d_sums[backward_tile];
  const int head = static_cast<int>(blockIdx.y);
  const std::size_t sequence = std::size_t{blockIdx.z} * length;
  const int first = static_cast<int>(blockIdx.x) * rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const Head q(o, Side::query, sequence, head, S::key);
  const Head k(o, Side::key, sequence, head, S::key);
  const Head v(o, Side::value, sequence, head, S::value);
  const Head d(o, Side::d_output, sequence, head, S::value);
  load_rows<S::key_chunk>(keys, k.data, k.stride, first, length);
  load_rows<S::value_chunk>(values, v.data, v.stride, first, length);
  const int s[2] = {first + own + lane / 4, first + own + lane / 4 + 8};
  Sums d_key[S::key / 8];
  Sums d_value[S::value / 8];
  for (int t0 = first; t0 < length; t0 += backward_tile) {
    __syncthreads();
    load_rows<S::key_chunk>(queries, q.data, q.stride, t0, length);
    load_rows<S::output_chunk>(gradients, d.data, d.stride, t0, length);
    for (int j = static_cast<int>(threadIdx.x); j < backward_tile; j += threads)
      d_sums[j] = d_normaliser<S>(o, sequence, head, t0 + j, length);
    __syncthreads();
    if (t0 + backward_tile - 1 < first + own) continue;  // all earlier than this warp's tokens
    Sums p[2];
    Sums d_p[2];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      p[b] = rows_with_rows<S::key>(keys, own, queries, b * 8);
      d_p[b] = rows_with_rows<S::value>(values, own, gradients, b * 8);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int j = b * 8 + lane % 4 * 2 + i % 2;
        const bool sees = t0 + j >= s[i / 2];
        p[b].value[i] = sees ? p[b].value[i] : 0.0f;
        d_p[b].value[i] = sees ? d_p[b].value[i] + d_sums[j] : 0.0f;
      }
    }
    const Left<16> pairs = tensor::as_left(p[0], p[1]);
    const Left<16> d_pairs = tensor::as_left(d_p[0], d_p[1]);
#pragma unroll
    for (int c = 0; c < S::value / 8; ++c) multiply_add(d_value[c], pairs, gradients.right(0, c * 8));
#pragma unroll
    for (int c = 0; c < S::key / 8; ++c) multiply_add(d_key[c], d_pairs, queries.right(0, c * 8));
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (s[h] >= length) continue;
    store_row<S::key_gradient_chunk>(d_key, h, scale, dk + (sequence + s[h]) * dk_stride + head * S::key);
    store_row<S::value_gradient_chunk>(d_value, h, scale, dv + (sequence + s[h]) * dv_stride + head * S::value);
  }
}

inline dim3 grid(const Shape& shape, int heads) {
  return dim3(static_cast<unsigned>((shape.length + rows - 1) / rows), static_cast<unsigned>(heads),
              static_cast<unsigned>(shape.batch));
}

}  // namespace mad::cuda::recurrence_pairs
