// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention in float, whatever is stored: keys pass through shared memory tile by tile, scores never reach
/// memory (Dao 2023, arXiv 2307.08691).
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/kernels/rotation.cuh>

namespace mad::cuda {

/// Sizes of a call; see ops/attention.hpp.
struct AttentionSizes {
  int batch, length, heads, kv_heads;
  int window;  ///< keys visible before a query's own; at most the length
  float scale;
  int rotary;
  bool interleaved;
  const float2* rotations = nullptr;

  __device__ Rotation rotation() const { return {rotations, rotary, interleaved}; }
};

/// Queries, keys and values on the device, and how far apart their rows are.
template <class T>
struct AttentionOperands {
  const T *q, *k, *v;
  std::size_t q_stride, k_stride, v_stride;

  AttentionOperands(View<const T> queries, View<const T> keys, View<const T> values)
      : q(queries.data),
        k(keys.data),
        v(values.data),
        q_stride(static_cast<std::size_t>(queries.stride)),
        k_stride(static_cast<std::size_t>(keys.stride)),
        v_stride(static_cast<std::size_t>(values.stride)) {}
};

namespace attention_exact {

inline constexpr int threads = 128;
inline constexpr float log2_e = 1.4426950408889634f;

/// A head of Width channels is spread over `lanes` neighbouring lanes, `own` channels each.
template <int Width>
struct Head {
  static constexpr int lanes = Width % 16 == 0 && Width >= 128 ? 16
                               : Width % 8 == 0 && Width >= 64 ? 8
                               : Width % 4 == 0 && Width >= 32 ? 4
                               : Width % 2 == 0 && Width >= 16 ? 2
                                                               : 1;
  static constexpr int own = Width / lanes;
  static constexpr int teams = threads / lanes;                          ///< rows that a block computes
  static constexpr int tile = Width >= 64 ? 16 : Width >= 32 ? 32 : 64;  ///< rows that pass through shared memory

  static __device__ float dot(const float (&a)[own], const float* b) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < own; ++i) sum += a[i] * b[i];
    return lane_sum<lanes>(sum);
  }
};

/// Rows [first, first + Count) of a head, turned and scaled, to shared memory; 0 behind the end of the sequence.
template <int Width, int Count, class T>
__device__ void load_tile(float (&to)[Count][Width], const T* from, std::size_t stride, int first, int length,
                          const Rotation* rotation, float scale) {
  for (int i = static_cast<int>(threadIdx.x); i < Count * Width; i += threads) {
    const int r = i / Width;
    const int c = i % Width;
    const int t = first + r;
    float x = 0;
    if (t < length) {
      const T* row = from + static_cast<std::size_t>(t) * stride;
      x = rotation != nullptr ? rotation->turned(row, c, t, 1.0f) : to_float(row[c]);
    }
    to[r][c] = x * scale;
  }
}

/// o_t = sum_s p[t,s] v_s and the log-sum-exp of the scores. Grid: (tiles of queries, heads, batch).
template <int Width, class T>
__global__ void __launch_bounds__(threads)
    forward(AttentionSizes n, const T* q, std::size_t q_stride, const T* k, std::size_t k_stride, const T* v,
            std::size_t v_stride, T* o, std::size_t o_stride, float* lse, std::size_t lse_stride) {
  using H = Head<Width>;
  __shared__ float keys[H::tile][Width];
  __shared__ float values[H::tile][Width];
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / (n.heads / n.kv_heads);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * H::teams;  // the longest rows begin first
  const int t = first + static_cast<int>(threadIdx.x) / H::lanes;
  const int channel = static_cast<int>(threadIdx.x) % H::lanes * H::own;
  const Rotation rotation = n.rotation();
  q += sequence * q_stride + head * Width;
  k += sequence * k_stride + kv_head * Width;
  v += sequence * v_stride + kv_head * Width;
  const bool here = t < n.length;
  const float factor = n.scale * log2_e;  // powers of two are what the hardware computes
  float query[H::own];
#pragma unroll
  for (int i = 0; i < H::own; ++i)
    query[i] = here ? rotation.turned(q + static_cast<std::size_t>(t) * q_stride, channel + i, t, 1.0f) * factor : 0.0f;
  float mixed[H::own]{};
  float largest = -INFINITY;
  float sum = 0;
  const int begin = max(0, first - n.window) / H::tile * H::tile;
  const int end = min(first + H::teams, n.length);
  for (int s0 = begin; s0 < end; s0 += H::tile) {
    __syncthreads();
    load_tile<Width, H::tile>(keys, k, k_stride, s0, n.length, &rotation, 1.0f);
    load_tile<Width, H::tile>(values, v, v_stride, s0, n.length, nullptr, 1.0f);
    __syncthreads();
    constexpr int step = 8;
    for (int j0 = 0; j0 < H::tile; j0 += step) {
      float score[step];
      float top = largest;
#pragma unroll
      for (int j = 0; j < step; ++j) {
        const int s = s0 + j0 + j;
        const float dot = H::dot(query, &keys[j0 + j][channel]);
        score[j] = s <= t && s >= t - n.window ? dot : -INFINITY;
        top = fmaxf(top, score[j]);
      }
      if (top == -INFINITY) continue;  // nothing is visible yet; the lanes of a row agree
      const float shrink = exp2f(largest - top);
      largest = top;
      sum *= shrink;
#pragma unroll
      for (int i = 0; i < H::own; ++i) mixed[i] *= shrink;
#pragma unroll
      for (int j = 0; j < step; ++j) {
        const float p = exp2f(score[j] - top);
        sum += p;
#pragma unroll
        for (int i = 0; i < H::own; ++i) mixed[i] += p * values[j0 + j][channel + i];
      }
    }
  }
  if (!here) return;
  const float share = 1.0f / sum;
  o += (sequence + t) * o_stride + head * Width + channel;
#pragma unroll
  for (int i = 0; i < H::own; ++i) o[i] = from_float<T>(mixed[i] * share);
  if (channel == 0) lse[(sequence + t) * lse_stride + head] = largest / log2_e + logf(sum);
}

/// dq_t = scale sum_s ds[t,s] k_s, turned back; and delta[t, head] = do_t.o_t for the other kernel.
template <int Width, class T>
__global__ void __launch_bounds__(threads)
    query_gradient(AttentionSizes n, const T* q, std::size_t q_stride, const T* k, std::size_t k_stride, const T* v,
                   std::size_t v_stride, const T* o, std::size_t o_stride, const float* lse, std::size_t lse_stride,
                   const T* d_o, std::size_t do_stride, T* dq, std::size_t dq_stride, float* delta) {
  using H = Head<Width>;
  __shared__ float keys[H::tile][Width];
  __shared__ float values[H::tile][Width];
  __shared__ float result[H::teams][Width];
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / (n.heads / n.kv_heads);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * H::teams;
  const int team = static_cast<int>(threadIdx.x) / H::lanes;
  const int t = first + team;
  const int channel = static_cast<int>(threadIdx.x) % H::lanes * H::own;
  const Rotation rotation = n.rotation();
  q += sequence * q_stride + head * Width;
  k += sequence * k_stride + kv_head * Width;
  v += sequence * v_stride + kv_head * Width;
  const bool here = t < n.length;
  const std::size_t row = here ? sequence + t : sequence;
  float query[H::own];
  float gradient[H::own];
  float product = 0;
#pragma unroll
  for (int i = 0; i < H::own; ++i) {
    query[i] =
        here ? rotation.turned(q + static_cast<std::size_t>(t) * q_stride, channel + i, t, 1.0f) * n.scale * log2_e
             : 0.0f;
    gradient[i] = here ? to_float(d_o[row * do_stride + head * Width + channel + i]) : 0.0f;
    product += gradient[i] * to_float(o[row * o_stride + head * Width + channel + i]);
  }
  product = lane_sum<H::lanes>(product);
  if (here && channel == 0) delta[row * n.heads + head] = product;
  const float norm = here ? lse[row * lse_stride + head] * log2_e : INFINITY;
  float sum[H::own]{};
  const int begin = max(0, first - n.window) / H::tile * H::tile;
  const int end = min(first + H::teams, n.length);
  for (int s0 = begin; s0 < end; s0 += H::tile) {
    __syncthreads();
    load_tile<Width, H::tile>(keys, k, k_stride, s0, n.length, &rotation, 1.0f);
    load_tile<Width, H::tile>(values, v, v_stride, s0, n.length, nullptr, 1.0f);
    __syncthreads();
#pragma unroll 4
    for (int j = 0; j < H::tile; ++j) {
      const int s = s0 + j;
      const float score = H::dot(query, &keys[j][channel]);
      const float d_p = H::dot(gradient, &values[j][channel]);
      const float p = s <= t && s >= t - n.window ? exp2f(score - norm) : 0.0f;
      const float d_s = p * (d_p - product);
#pragma unroll
      for (int i = 0; i < H::own; ++i) sum[i] += d_s * keys[j][channel + i];
    }
  }
#pragma unroll
  for (int i = 0; i < H::own; ++i) result[team][channel + i] = sum[i] * n.scale;
  __syncthreads();
  if (!here) return;
#pragma unroll
  for (int i = 0; i < H::own; ++i)
    dq[row * dq_stride + head * Width + channel + i] =
        from_float<T>(rotation.turned(result[team], channel + i, t, -1.0f));
}

/// dv_s = sum_t p[t,s] do_t and dk_s = scale sum_t ds[t,s] q_t, turned back; summed over the query heads that share the
/// key. Grid: (tiles of keys, key heads, batch).
template <int Width, class T>
__global__ void __launch_bounds__(threads)
    key_gradient(AttentionSizes n, const T* q, std::size_t q_stride, const T* k, std::size_t k_stride, const T* v,
                 std::size_t v_stride, const float* lse, std::size_t lse_stride, const T* d_o, std::size_t do_stride,
                 const float* delta, T* dk, std::size_t dk_stride, T* dv, std::size_t dv_stride) {
  using H = Head<Width>;
  __shared__ float queries[H::tile][Width];
  __shared__ float gradients[H::tile][Width];
  __shared__ float norms[H::tile];
  __shared__ float products[H::tile];
  __shared__ float result[H::teams][Width];
  const int kv_head = static_cast<int>(blockIdx.y);
  const int group = n.heads / n.kv_heads;
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const int first = static_cast<int>(blockIdx.x) * H::teams;
  const int team = static_cast<int>(threadIdx.x) / H::lanes;
  const int s = first + team;
  const int channel = static_cast<int>(threadIdx.x) % H::lanes * H::own;
  const Rotation rotation = n.rotation();
  const bool here = s < n.length;
  const std::size_t row = here ? sequence + s : sequence;
  float key[H::own];
  float value[H::own];
#pragma unroll
  for (int i = 0; i < H::own; ++i) {
    key[i] = here ? rotation.turned(k + row * k_stride + kv_head * Width, channel + i, s, 1.0f) : 0.0f;
    value[i] = here ? to_float(v[row * v_stride + kv_head * Width + channel + i]) : 0.0f;
  }
  float d_key[H::own]{};
  float d_value[H::own]{};
  const int last = min(n.length, first + H::teams + n.window);  // behind the last query that sees a key of the block
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int t0 = first / H::tile * H::tile; t0 < last; t0 += H::tile) {
      __syncthreads();
      load_tile<Width, H::tile>(queries, q + sequence * q_stride + head * Width, q_stride, t0, n.length, &rotation,
                                n.scale * log2_e);
      load_tile<Width, H::tile>(gradients, d_o + sequence * do_stride + head * Width, do_stride, t0, n.length, nullptr,
                                1.0f);
      for (int j = static_cast<int>(threadIdx.x); j < H::tile; j += threads) {
        const bool inside = t0 + j < n.length;
        norms[j] = inside ? lse[(sequence + t0 + j) * lse_stride + head] * log2_e : INFINITY;
        products[j] = inside ? delta[(sequence + t0 + j) * n.heads + head] : 0.0f;
      }
      __syncthreads();
#pragma unroll 4
      for (int j = 0; j < H::tile; ++j) {
        const int t = t0 + j;
        const float score = H::dot(key, &queries[j][channel]);
        const float d_p = H::dot(value, &gradients[j][channel]);
        const float p = s <= t && s >= t - n.window ? exp2f(score - norms[j]) : 0.0f;
        const float d_s = p * (d_p - products[j]);
#pragma unroll
        for (int i = 0; i < H::own; ++i) {
          d_value[i] += p * gradients[j][channel + i];
          d_key[i] += d_s * queries[j][channel + i];
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < H::own; ++i) result[team][channel + i] = d_key[i] / log2_e;  // the queries carry the scale
  __syncthreads();
  if (!here) return;
#pragma unroll
  for (int i = 0; i < H::own; ++i) {
    dk[row * dk_stride + kv_head * Width + channel + i] =
        from_float<T>(rotation.turned(result[team], channel + i, s, -1.0f));
    dv[row * dv_stride + kv_head * Width + channel + i] = from_float<T>(d_value[i]);
  }
}

}  // namespace attention_exact

/// Queries and outputs (tokens, heads Width), keys and values (tokens, kv_heads Width), lse (tokens, heads).
template <int Width, class T>
void attention_forward(Queue& queue, const AttentionSizes& n, View<const T> q, View<const T> k, View<const T> v,
                       View<T> o, View<float> lse) {
  constexpr int rows = attention_exact::Head<Width>::teams;
  const dim3 grid(static_cast<unsigned>((n.length + rows - 1) / rows), static_cast<unsigned>(n.heads),
                  static_cast<unsigned>(n.batch));
  queue.launch("attention", attention_exact::forward<Width, T>, grid, dim3(attention_exact::threads), 0, n, q.data,
               q.stride, k.data, k.stride, v.data, v.stride, o.data, o.stride, lse.data, lse.stride);
}

template <int Width, class T>
void attention_backward(Queue& queue, const AttentionSizes& n, View<const T> q, View<const T> k, View<const T> v,
                        View<const T> o, View<const float> lse, View<const T> d_o, View<T> dq, View<T> dk, View<T> dv) {
  constexpr int rows = attention_exact::Head<Width>::teams;
  const dim3 grid(static_cast<unsigned>((n.length + rows - 1) / rows), static_cast<unsigned>(n.heads),
                  static_cast<unsigned>(n.batch));
  const dim3 key_grid(grid.x, static_cast<unsigned>(n.kv_heads), grid.z);
  float* delta = queue.take<float>(Index{n.batch} * n.length * n.heads);
  queue.launch("the queries' gradient of attention", attention_exact::query_gradient<Width, T>, grid,
               dim3(attention_exact::threads), 0, n, q.data, q.stride, k.data, k.stride, v.data, v.stride, o.data,
               o.stride, lse.data, lse.stride, d_o.data, d_o.stride, dq.data, dq.stride, delta);
  queue.launch("the keys' gradient of attention", attention_exact::key_gradient<Width, T>, key_grid,
               dim3(attention_exact::threads), 0, n, q.data, q.stride, k.data, k.stride, v.data, v.stride, lse.data,
               lse.stride, d_o.data, d_o.stride, delta, dk.data, dk.stride, dv.data, dv.stride);
}

}  // namespace mad::cuda
