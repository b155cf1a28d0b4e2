// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention in bfloat16 on the tensor cores (Dao 2023, arXiv 2307.08691), for heads of more than 16 channels;
/// see attention_narrow.cuh for others.
#pragma once

#include <mad/cuda/attention_exact.cuh>
#include <mad/cuda/attention_tensor_rows.cuh>

namespace mad::cuda::attention_tensor {

using attention_exact::log2_e;

using Operands = AttentionOperands<BFloat16>;

/// True if query t may see key s.
__device__ inline bool sees(int t, int s, int window, int length) { return s <= t && s >= t - window && t < length; }

/// Grid: (tiles of queries, heads, batch).
template <int Width>
__global__ void __launch_bounds__(Shape<Width>::threads)
    forward(AttentionSizes n, Operands of, BFloat16* o, std::size_t o_stride, float* lse, std::size_t lse_stride) {
  using S = Shape<Width>;
  __shared__ tensor::Tile<S::rows, Width> queries;
  __shared__ tensor::Tile<S::tile, Width> keys;
  __shared__ tensor::Tile<S::tile, Width> values;
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / (n.heads / n.kv_heads);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::rows;  // the longest rows begin first
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const Rotation rotation = n.rotation();
  load_turned<S::rows, Width, S::threads>(queries, of.q + sequence * of.q_stride + head * Width, of.q_stride, first,
                                          n.length, rotation);
  const BFloat16* k = of.k + sequence * of.k_stride + kv_head * Width;
  const BFloat16* v = of.v + sequence * of.v_stride + kv_head * Width;
  const float factor = n.scale * log2_e;
  const int t[2] = {first + own + lane / 4, first + own + lane / 4 + 8};
  Sums mixed[S::columns];
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // of this lane's columns
  const int begin = max(0, first - n.window) / S::tile * S::tile;
  const int end = min(first + S::rows, n.length);
  __syncthreads();
  const OwnRows<S::rows, Width> own_queries(queries, own);
  for (int s0 = begin; s0 < end; s0 += S::tile) {
    __syncthreads();
    load_turned<S::tile, Width, S::threads>(keys, k, of.k_stride, s0, end, rotation);
    load_rows<S::tile, Width, S::threads>(values, v, of.v_stride, s0, end);
    __syncthreads();
    if (s0 > first + own + 15 || s0 + S::tile <= first + own - n.window) continue;  // this warp's queries see nothing
    Sums score[S::tile / 8];
#pragma unroll
    for (int j = 0; j < S::tile / 8; ++j) score[j] = own_queries.with_rows(keys, j * 8);
    const bool all_seen = s0 + S::tile - 1 <= first + own && s0 >= first + own + 15 - n.window;
    float top[2] = {largest[0], largest[1]};
#pragma unroll
    for (int j = 0; j < S::tile / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int s = s0 + j * 8 + lane % 4 * 2 + i % 2;
        if (!all_seen && !sees(t[i / 2], s, n.window, n.length)) score[j].value[i] = -INFINITY;
        top[i / 2] = fmaxf(top[i / 2], score[j].value[i] * factor);
      }
    }
    float shrink[2];
    float base[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 1));
      top[h] = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 2));
      base[h] = top[h] == -INFINITY ? 0.0f : top[h];  // nothing seen yet: all terms are 0
      shrink[h] = tensor::power_of_two(largest[h] - base[h]);
      largest[h] = top[h];
      sum[h] *= shrink[h];
    }
#pragma unroll
    for (int c = 0; c < S::columns; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) mixed[c].value[i] *= shrink[i / 2];
#pragma unroll
    for (int j = 0; j < S::tile / 8; j += 2) {
#pragma unroll
      for (int b = j; b < j + 2; ++b)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          score[b].value[i] = tensor::power_of_two(score[b].value[i] * factor - base[i / 2]);
          sum[i / 2] += score[b].value[i];
        }
      const Left<16> p = tensor::as_left(score[j], score[j + 1]);
#pragma unroll
      for (int c = 0; c < S::columns; ++c) multiply_add(mixed[c], p, values.right(j * 8, c * 8));
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
    sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
    if (t[h] >= n.length) continue;
    const float share = 1.0f / sum[h];
    BFloat16* to = o + (sequence + t[h]) * o_stride + head * Width + lane % 4 * 2;
#pragma unroll
    for (int c = 0; c < S::columns; ++c)
      *reinterpret_cast<std::uint32_t*>(to + c * 8) =
          tensor::pack(mixed[c].value[2 * h] * share, mixed[c].value[2 * h + 1] * share);
    if (lane % 4 == 0) lse[(sequence + t[h]) * lse_stride + head] = (largest[h] + log2f(sum[h])) / log2_e;
  }
}

/// dq, and delta[t, head] = do_t.o_t for the other kernel. Grid: (tiles of queries, heads, batch).
template <int Width>
__global__ void __launch_bounds__(Shape<Width>::threads)
    query_gradient(AttentionSizes n, Operands of, const BFloat16* o, std::size_t o_stride, const float* lse,
                   std::size_t lse_stride, const BFloat16* d_o, std::size_t do_stride, BFloat16* dq,
                   std::size_t dq_stride, float* delta) {
  using S = Shape<Width>;
  constexpr int tile = S::backward_tile;
  struct Own {
    tensor::Tile<S::rows, Width> queries;
    tensor::Tile<S::rows, Width> gradients;
  };
  __shared__ alignas(16) unsigned char memory[sizeof(Own)];
  Own& block = *reinterpret_cast<Own*>(memory);
  __shared__ tensor::Tile<tile, Width> keys;
  __shared__ tensor::Tile<tile, Width> values;
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / (n.heads / n.kv_heads);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const Rotation rotation = n.rotation();
  load_turned<S::rows, Width, S::threads>(block.queries, of.q + sequence * of.q_stride + head * Width, of.q_stride,
                                          first, n.length, rotation);
  load_rows<S::rows, Width, S::threads>(block.gradients, d_o + sequence * do_stride + head * Width, do_stride, first,
                                        n.length);
  const int t[2] = {first + own + lane / 4, first + own + lane / 4 + 8};
  float norm[2];
  float product[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const bool here = t[h] < n.length;
    const std::size_t row = sequence + (here ? t[h] : 0);
    norm[h] = here ? lse[row * lse_stride + head] * log2_e : INFINITY;
    float dot = 0;
    if (here)
      for (int c = lane % 4; c < Width; c += 4)
        dot += to_float(d_o[row * do_stride + head * Width + c]) * to_float(o[row * o_stride + head * Width + c]);
    dot += __shfl_xor_sync(0xffffffffu, dot, 1);
    dot += __shfl_xor_sync(0xffffffffu, dot, 2);
    product[h] = dot;
    if (here && lane % 4 == 0) delta[row * n.heads + head] = dot;
  }
  const BFloat16* k = of.k + sequence * of.k_stride + kv_head * Width;
  const BFloat16* v = of.v + sequence * of.v_stride + kv_head * Width;
  const float factor = n.scale * log2_e;
  Sums d_query[S::columns];
  const int begin = max(0, first - n.window) / tile * tile;
  const int end = min(first + S::rows, n.length);
  __syncthreads();
  const OwnRows<S::rows, Width> own_queries(block.queries, own);
  const OwnRows<S::rows, Width> own_gradients(block.gradients, own);
  for (int s0 = begin; s0 < end; s0 += tile) {
    __syncthreads();
    load_turned<tile, Width, S::threads>(keys, k, of.k_stride, s0, end, rotation);
    load_rows<tile, Width, S::threads>(values, v, of.v_stride, s0, end);
    __syncthreads();
    if (s0 > first + own + 15 || s0 + tile <= first + own - n.window) continue;
    const bool all_seen = s0 + tile - 1 <= first + own && s0 >= first + own + 15 - n.window;
#pragma unroll
    for (int j = 0; j < tile / 8; j += 2) {
      Sums d_score[2];
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        Sums p = own_queries.with_rows(keys, (j + b) * 8);
        const Sums d_p = own_gradients.with_rows(values, (j + b) * 8);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int s = s0 + (j + b) * 8 + lane % 4 * 2 + i % 2;
          const bool seen = all_seen || sees(t[i / 2], s, n.window, n.length);
          p.value[i] = seen ? tensor::power_of_two(p.value[i] * factor - norm[i / 2]) : 0.0f;
          d_score[b].value[i] = p.value[i] * (d_p.value[i] - product[i / 2]);
        }
      }
      const Left<16> d_s = tensor::as_left(d_score[0], d_score[1]);
#pragma unroll
      for (int c = 0; c < S::columns; ++c) multiply_add(d_query[c], d_s, keys.right(j * 8, c * 8));
    }
  }
  store_turned_back<Width, S::threads>(d_query, n.scale, reinterpret_cast<float*>(memory), own,
                                       dq + sequence * dq_stride + head * Width, dq_stride, first, S::rows, n.length,
                                       rotation);
}

/// dk and dv. Grid: (tiles of keys, key heads, batch).
template <int Width>
__global__ void __launch_bounds__(Shape<Width>::threads)
    key_gradient(AttentionSizes n, Operands of, const float* lse, std::size_t lse_stride, const BFloat16* d_o,
                 std::size_t do_stride, const float* delta, BFloat16* dk, std::size_t dk_stride, BFloat16* dv,
                 std::size_t dv_stride) {
  using S = Shape<Width>;
  constexpr int tile = S::backward_tile;
  struct Own {
    tensor::Tile<S::rows, Width> keys;
    tensor::Tile<S::rows, Width> values;
  };
  __shared__ alignas(16) unsigned char memory[sizeof(Own)];
  Own& block = *reinterpret_cast<Own*>(memory);
  __shared__ tensor::Tile<tile, Width> queries;
  __shared__ tensor::Tile<tile, Width> gradients;
  __shared__ float norms[tile];
  __shared__ float products[tile];
  const int kv_head = static_cast<int>(blockIdx.y);
  const int group = n.heads / n.kv_heads;
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const int first = static_cast<int>(blockIdx.x) * S::rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16;
  const Rotation rotation = n.rotation();
  load_turned<S::rows, Width, S::threads>(block.keys, of.k + sequence * of.k_stride + kv_head * Width, of.k_stride,
                                          first, n.length, rotation);
  load_rows<S::rows, Width, S::threads>(block.values, of.v + sequence * of.v_stride + kv_head * Width, of.v_stride,
                                        first, n.length);
  const int s[2] = {first + own + lane / 4, first + own + lane / 4 + 8};
  const float factor = n.scale * log2_e;
  Sums d_key[S::columns];
  Sums d_value[S::columns];
  const int last = min(n.length, first + S::rows + n.window);
  __syncthreads();
  const OwnRows<S::rows, Width> own_keys(block.keys, own);
  const OwnRows<S::rows, Width> own_values(block.values, own);
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int t0 = first / tile * tile; t0 < last; t0 += tile) {
      __syncthreads();
      load_turned<tile, Width, S::threads>(queries, of.q + sequence * of.q_stride + head * Width, of.q_stride, t0, last,
                                           rotation);
      load_rows<tile, Width, S::threads>(gradients, d_o + sequence * do_stride + head * Width, do_stride, t0, last);
      for (int j = static_cast<int>(threadIdx.x); j < tile; j += S::threads) {
        const bool here = t0 + j < last;
        norms[j] = here ? lse[(sequence + t0 + j) * lse_stride + head] * log2_e : INFINITY;
        products[j] = here ? delta[(sequence + t0 + j) * n.heads + head] : 0.0f;
      }
      __syncthreads();
      // This warp's keys are seen by none of them.
      if (t0 + tile - 1 < first + own || t0 - n.window > first + own + 15) continue;
      const bool all_see = t0 >= first + own + 15 && t0 + tile - 1 - n.window <= first + own && t0 + tile <= n.length;
#pragma unroll
      for (int j = 0; j < tile / 8; j += 2) {
        Sums p[2];
        Sums d_score[2];
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          p[b] = own_keys.with_rows(queries, (j + b) * 8);
          const Sums d_p = own_values.with_rows(gradients, (j + b) * 8);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int column = (j + b) * 8 + lane % 4 * 2 + i % 2;
            const bool seen = all_see || sees(t0 + column, s[i / 2], n.window, n.length);
            p[b].value[i] = seen ? tensor::power_of_two(p[b].value[i] * factor - norms[column]) : 0.0f;
            d_score[b].value[i] = p[b].value[i] * (d_p.value[i] - products[column]);
          }
        }
        const Left<16> mixing = tensor::as_left(p[0], p[1]);
        const Left<16> d_s = tensor::as_left(d_score[0], d_score[1]);
#pragma unroll
        for (int c = 0; c < S::columns; ++c) {
          multiply_add(d_value[c], mixing, gradients.right(j * 8, c * 8));
          multiply_add(d_key[c], d_s, queries.right(j * 8, c * 8));
        }
      }
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (s[h] >= n.length) continue;
    BFloat16* to = dv + (sequence + s[h]) * dv_stride + kv_head * Width + lane % 4 * 2;
#pragma unroll
    for (int c = 0; c < S::columns; ++c)
      *reinterpret_cast<std::uint32_t*>(to + c * 8) =
          tensor::pack(d_value[c].value[2 * h], d_value[c].value[2 * h + 1]);
  }
  store_turned_back<Width, S::threads>(d_key, n.scale, reinterpret_cast<float*>(memory), own,
                                       dk + sequence * dk_stride + kv_head * Width, dk_stride, first, S::rows, n.length,
                                       rotation);
}

template <int Width>
dim3 grid(const AttentionSizes& n, int heads) {
  return dim3(static_cast<unsigned>((n.length + Shape<Width>::rows - 1) / Shape<Width>::rows),
              static_cast<unsigned>(heads), static_cast<unsigned>(n.batch));
}

}  // namespace mad::cuda::attention_tensor

namespace mad::cuda {

/// As `attention_forward`, on the tensor cores; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_forward_tensor(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                              View<const BFloat16> v, View<BFloat16> o, View<float> lse) {
  namespace a = attention_tensor;
  const a::Operands of(q, k, v);
  queue.launch("attention", a::forward<Width>, a::grid<Width>(n, n.heads), dim3(a::Shape<Width>::threads), 0, n, of,
               o.data, o.stride, lse.data, lse.stride);
}

template <int Width>
void attention_backward_tensor(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                               View<const BFloat16> v, View<const BFloat16> o, View<const float> lse,
                               View<const BFloat16> d_o, View<BFloat16> dq, View<BFloat16> dk, View<BFloat16> dv) {
  namespace a = attention_tensor;
  const a::Operands of(q, k, v);
  float* delta = queue.take<float>(Index{n.batch} * n.length * n.heads);
  queue.launch("the queries' gradient of attention", a::query_gradient<Width>, a::grid<Width>(n, n.heads),
               dim3(a::Shape<Width>::threads), 0, n, of, o.data, o.stride, lse.data, lse.stride, d_o.data, d_o.stride,
               dq.data, dq.stride, delta);
  queue.launch("the keys' gradient of attention", a::key_gradient<Width>, a::grid<Width>(n, n.kv_heads),
               dim3(a::Shape<Width>::threads), 0, n, of, lse.data, lse.stride, d_o.data, d_o.stride, delta, dk.data,
               dk.stride, dv.data, dv.stride);
}

}  // namespace mad::cuda
