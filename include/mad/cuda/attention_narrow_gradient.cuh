// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of softmax attention in bfloat16 for narrow heads, of 8 or 16 channels: one kernel for all three
/// gradients, so that each exponential is computed once.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/attention_narrow_rows.cuh>
#include <mad/cuda/queue.hpp>

#include <cstddef>

namespace mad::cuda::attention_narrow {

/// How the backward pass is cut. Rows are those of all heads of a block.
template <int Width>
struct Backward {
  static constexpr int tiles = 32 / Width;                 ///< tiles of 16 keys of a warp
  static constexpr int capacity = warps * tiles * 16;      ///< rows of keys, and of queries, in shared memory
  static constexpr int loaded = capacity / threads;        ///< of them, those that a thread loads
  static constexpr int step = 512 / Width;                 ///< queries of each head between two barriers
  static constexpr int partial_stride = step * Width + 4;  ///< heads' sums lie in different banks

  /// What is in shared memory.
  struct Memory {
    BFloat16 keys[capacity * stride<Width>];
    BFloat16 values[capacity * stride<Width>];
    BFloat16 queries[capacity * stride<Width>];
    BFloat16 gradients[capacity * stride<Width>];  ///< do
    float minus_lse[capacity * 2];                 ///< in powers of two; of each pair of queries a, b: a, b, a, b
    float minus_delta[capacity * 2];               ///< delta_t = do_t.o_t
    float partial[2][warps * partial_stride];      ///< dq by warp; in the end dk and dv
  };
};

/// As `is_by_cubic`: 56 cycles of the special functions for 16 x 16 scores, and 43 instructions.
__device__ constexpr bool is_by_cubic_backward(int i) { return i == 5; }

/// 16 queries that pass by.
template <int Width>
struct PassingQueries {
  Matrices<Width> rows[2];     ///< q and do
  Matrices<Width> columns[2];  ///< transposed
  Sums minus_lse[2];
  Sums minus_delta[2];

  __device__ PassingQueries(const typename Backward<Width>::Memory& memory, int row) {
    constexpr int apart = Backward<Width>::capacity * stride<Width>;
    load_twice<false>(memory.queries + row * stride<Width>, apart, rows);
    load_twice<true>(memory.queries + row * stride<Width>, apart, columns);
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int at = row * 2 + b * 16 + static_cast<int>(threadIdx.x) % 4 * 4;
      load(memory.minus_lse + at, minus_lse[b].value);
      load(memory.minus_delta + at, minus_delta[b].value);
    }
  }
};

/// 16 keys of a warp.
template <int Width>
struct OwnKeys {
  Left<Width> key;
  Left<Width> value;
  Right<16> key_columns[Width / 8];
  Sums d_key[Width / 8];
  Sums d_value[Width / 8];

  /// Takes up the keys of a row of shared memory.
  __device__ void take(const typename Backward<Width>::Memory& memory, int row) {
    constexpr int apart = Backward<Width>::capacity * stride<Width>;
    Matrices<Width> m[2];
    load_twice<false>(memory.keys + row * stride<Width>, apart, m);
    key = m[0].left();
    value = m[1].left();
    load_twice<true>(memory.keys + row * stride<Width>, apart, m);
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) {
      key_columns[c] = m[0].right(c);
      d_key[c] = {};
      d_value[c] = {};
    }
  }

  /// The transposed scores of 16 queries and what follows from them. `distance` is that of the lane's first query from
  /// its first key.
  template <bool Masked>
  __device__ void meet(const PassingQueries<Width>& queries, int distance, int window, Sums (&d_query)[Width / 8]) {
    Sums p[2];
    Sums d_score[2];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      p[b] = queries.minus_lse[b];
      multiply_add(p[b], key, queries.rows[0].right_of_rows(b));
      d_score[b] = queries.minus_delta[b];
      multiply_add(d_score[b], value, queries.rows[1].right_of_rows(b));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& x = p[b].value[i];
        x = !Masked && is_by_cubic_backward(b * 4 + i) ? tensor::power_of_two_by_cubic(fmaxf(x, -126.0f))
                                                       : tensor::power_of_two(x);
        if (Masked && !sees(distance + b * 8 + i % 2 - i / 2 * 8, window)) x = 0;
        d_score[b].value[i] *= x;
      }
    }
    const Left<16> mixing = tensor::as_left(p[0], p[1]);
    const Left<16> d_scores = tensor::as_left(d_score[0], d_score[1]);
    const Left<16> d_scores_of_queries = tensor::transposed(d_scores);
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) {
      multiply_add(d_value[c], mixing, queries.columns[1].right(c));
      multiply_add(d_key[c], d_scores, queries.columns[0].right(c));
      multiply_add(d_query[c], d_scores_of_queries, key_columns[c]);
    }
  }
};

/// Memory on the device, in the notation of ops/attention.hpp.
struct Gradients {
  const BFloat16 *o, *d_o;
  const float* lse;
  BFloat16 *dq, *dk, *dv;
  float* partial_dq;  ///< (tokens, heads, Width) where keys come in several chunks
  std::size_t o_stride, do_stride, lse_stride, dq_stride, dk_stride, dv_stride;
};

/// A row of sums times a factor, turned back by its position, as bfloat16 to memory. `scratch` is Width floats of
/// shared memory of this thread.
template <int Width>
__device__ void store_turned_back(float (&sum)[Width], float* scratch, int position, float factor,
                                  const Rotation& rotation, BFloat16* to) {
  if (rotation.turns_halves(Width)) {
    float turn[Width];
    rotation.angles(position, turn);
    Rotation::turn_halves(sum, turn, -1.0f, factor);
  } else {
    store(scratch, sum);
    rotation.turn<Width>(scratch, position, -1.0f, factor);
    load(scratch, sum);
  }
#pragma unroll
  for (int c = 0; c < Width; c += 8) store(to + c, reinterpret_cast<const float(&)[8]>(sum[c]));
}

/// dq, dk and dv. A block owns neighbouring heads of keys of a sequence. Of each chunk of their keys, a warp keeps
/// every few tiles of 16 in registers, and all queries pass by: dk and dv are the warp's own, dq is summed over the
/// warps in shared memory, and over the chunks by the block. Grid: (groups of heads, batch).
template <int Width>
__global__ void __launch_bounds__(threads, 2) backward(AttentionSizes n, Share share, Operands of, Gradients g) {
  using B = Backward<Width>;
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<typename B::Memory*>(dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int head_warps = share.head_warps();
  const int slot = share.head_of(warp);
  const int place = share.place_of(warp);
  const int first_head = static_cast<int>(blockIdx.x) << share.shift;  // of keys
  const Part part(share);
  const int kv_head = first_head + part.slot;  // of what this thread loads and stores
  const int group = n.heads / n.kv_heads;
  const std::size_t sequence = std::size_t{blockIdx.y} * n.length;
  const Rotation rotation = n.rotation();
  // Tiles in alternating directions: earlier keys are seen by more queries.
  const auto first_key = [&](int j) { return 16 * (j * head_warps + (j % 2 == 0 ? place : head_warps - 1 - place)); };
  OwnKeys<Width> own[B::tiles];

  for (int chunk = 0; chunk < n.length; chunk += share.rows) {
    const int chunk_end = min(chunk + share.rows, n.length);
    const int end = min(n.length, chunk_end + n.window);  // behind the last query that sees a key of the chunk
    copy_rows<Width>(memory.keys, of.k + sequence * of.k_stride + kv_head * Width, of.k_stride, memory.values,
                     of.v + sequence * of.v_stride + kv_head * Width, of.v_stride, chunk, chunk_end, share);
    int buffer = 0;
    for (int member = 0; member < group; ++member) {
      for (int loaded = chunk; loaded < end; loaded += share.rows) {
        const int loaded_end = min(loaded + share.rows, end);
        const int head = kv_head * group + member;
        copy_rows<Width>(memory.queries, of.q + sequence * of.q_stride + head * Width, of.q_stride, memory.gradients,
                         g.d_o + sequence * g.do_stride + head * Width, g.do_stride, loaded, loaded_end, share);
        Row<Width> output[B::loaded];
        float lse[B::loaded];
#pragma unroll
        for (int u = 0; u < B::loaded; ++u) {
          const int t = loaded + part.first + u * part.apart;
          output[u] = Row<Width>::at(g.o + (sequence + t) * g.o_stride + head * Width, t < loaded_end);
          lse[u] = t < loaded_end ? g.lse[(sequence + t) * g.lse_stride + head] : INFINITY;  // sees nothing
        }
        if (member == 0 && loaded == chunk) turn_rows<Width>(memory.keys, chunk, chunk_end, 1.0f, share, rotation);
        turn_rows<Width>(memory.queries, loaded, loaded_end, n.scale * log2_e, share, rotation);
#pragma unroll
        for (int u = 0; u < B::loaded; ++u) {
          const int r = part.first + u * part.apart;
          if (r >= (loaded_end - loaded + 31) / 32 * 32) break;
          const int row = part.slot * share.rows + r;
          const int at = row / 2 * 4 + row % 2;
          memory.minus_lse[at] = memory.minus_lse[at + 2] = -lse[u] * log2_e;
          memory.minus_delta[at] = memory.minus_delta[at + 2] =
              -output[u].dot(Row<Width>::at(memory.gradients + row * stride<Width>));
        }
        __syncthreads();
        if (member == 0 && loaded == chunk) {
#pragma unroll
          for (int j = 0; j < B::tiles; ++j) own[j].take(memory, slot * share.rows + first_key(j));
        }
        for (int step = loaded; step < loaded_end; step += B::step) {
          float* mine = memory.partial[buffer] + warp * B::partial_stride;
          for (int i = 0; i < B::step; i += 16) {
            const int t0 = step + i;
            if (t0 >= loaded_end) break;
            const PassingQueries<Width> queries(memory, slot * share.rows + t0 - loaded);
            Sums d_query[Width / 8];
            const int ahead = t0 - chunk;
            const int distance = ahead + lane % 4 * 2 - lane / 4;
            if (ahead >= first_key(B::tiles - 1) + 16 && ahead + 15 - n.window <= first_key(0)) {
#pragma unroll
              for (int j = 0; j < B::tiles; ++j)
                own[j].template meet<false>(queries, distance - first_key(j), n.window, d_query);
            } else {
#pragma unroll
              for (int j = 0; j < B::tiles; ++j) {
                const int tiles_ahead = ahead - first_key(j);
                if (tiles_ahead < 0 || tiles_ahead - 15 > n.window) continue;
                if (tiles_ahead >= 16 && tiles_ahead + 15 <= n.window)
                  own[j].template meet<false>(queries, distance - first_key(j), n.window, d_query);
                else
                  own[j].template meet<true>(queries, distance - first_key(j), n.window, d_query);
              }
            }
#pragma unroll
            for (int c = 0; c < Width / 8; ++c)
#pragma unroll
              for (int h = 0; h < 2; ++h)
                *reinterpret_cast<float2*>(mine + (i + lane / 4 + 8 * h) * Width + c * 8 + lane % 4 * 2) =
                    float2{d_query[c].value[2 * h], d_query[c].value[2 * h + 1]};
          }
          __syncthreads();
          // The sums over the head's warps; which threads take them changes from step to step.
          const int rows = B::step << share.shift;
          const int item = (static_cast<int>(threadIdx.x) + step / B::step * rows) % threads;
          const int r = item >> share.shift;
          const int t = step + r;
          if (item < rows && t < loaded_end) {
            const int of_slot = item & (share.heads() - 1);
            const std::size_t head = (first_head + of_slot) * group + member;
            float* partial = memory.partial[buffer] + of_slot * head_warps * B::partial_stride + r * Width;
            float sum[Width];
            load(partial, sum);
            for (int w = 1; w < head_warps; ++w) {
              float x[Width];
              load(partial + w * B::partial_stride, x);
#pragma unroll
              for (int c = 0; c < Width; ++c) sum[c] += x[c];
            }
            float* rest = g.partial_dq + ((sequence + t) * n.heads + head) * Width;
            const int first_chunk = max(0, t - n.window) / share.rows * share.rows;
            if (chunk > first_chunk) {
              float x[Width];
              load(rest, x);
#pragma unroll
              for (int c = 0; c < Width; ++c) sum[c] += x[c];
            }
            if (step < chunk_end)
              store_turned_back(sum, partial, t, n.scale, rotation, g.dq + (sequence + t) * g.dq_stride + head * Width);
            else
              store(rest, sum);
          }
          buffer ^= 1;
        }
      }
    }
    __syncthreads();
    const int staged_stride = share.rows * Width + 4;
#pragma unroll
    for (int j = 0; j < B::tiles; ++j) {
      if (chunk + first_key(j) >= n.length) continue;
#pragma unroll
      for (int c = 0; c < Width / 8; ++c)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int at = slot * staged_stride + (first_key(j) + lane / 4 + 8 * h) * Width + c * 8 + lane % 4 * 2;
          *reinterpret_cast<float2*>(memory.partial[0] + at) =
              float2{own[j].d_key[c].value[2 * h], own[j].d_key[c].value[2 * h + 1]};
          *reinterpret_cast<float2*>(memory.partial[1] + at) =
              float2{own[j].d_value[c].value[2 * h], own[j].d_value[c].value[2 * h + 1]};
        }
    }
    __syncthreads();
    for (int r = part.first; chunk + r < chunk_end; r += part.apart) {
      const int t = chunk + r;
      const int at = part.slot * staged_stride + r * Width;
      float sum[Width];
      load(memory.partial[1] + at, sum);
      BFloat16* dv = g.dv + (sequence + t) * g.dv_stride + kv_head * Width;
#pragma unroll
      for (int c = 0; c < Width; c += 8) store(dv + c, reinterpret_cast<const float(&)[8]>(sum[c]));
      load(memory.partial[0] + at, sum);
      store_turned_back(sum, memory.partial[0] + at, t, 1.0f / log2_e, rotation,  // the queries carry scale log2(e)
                        g.dk + (sequence + t) * g.dk_stride + kv_head * Width);
    }
  }
}

}  // namespace mad::cuda::attention_narrow

namespace mad::cuda {

/// As `attention_backward`, for heads of 8 or 16 channels; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_backward_narrow(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                               View<const BFloat16> v, View<const BFloat16> o, View<const float> lse,
                               View<const BFloat16> d_o, View<BFloat16> dq, View<BFloat16> dk, View<BFloat16> dv) {
  namespace a = attention_narrow;
  using B = a::Backward<Width>;
  const a::Share share(n.kv_heads, n.length, B::capacity);
  const a::Gradients gradients{
      .o = o.data,
      .d_o = d_o.data,
      .lse = lse.data,
      .dq = dq.data,
      .dk = dk.data,
      .dv = dv.data,
      .partial_dq = share.rows < n.length ? queue.take<float>(Index{n.batch} * n.length * n.heads * Width) : nullptr,
      .o_stride = static_cast<std::size_t>(o.stride),
      .do_stride = static_cast<std::size_t>(d_o.stride),
      .lse_stride = static_cast<std::size_t>(lse.stride),
      .dq_stride = static_cast<std::size_t>(dq.stride),
      .dk_stride = static_cast<std::size_t>(dk.stride),
      .dv_stride = static_cast<std::size_t>(dv.stride)};
  const dim3 grid(static_cast<unsigned>(n.kv_heads >> share.shift), static_cast<unsigned>(n.batch));
  queue.launch("the gradient of attention", a::backward<Width>, grid, dim3(a::threads), sizeof(typename B::Memory), n,
               share, a::Operands(q, k, v), gradients);
}

}  // namespace mad::cuda
