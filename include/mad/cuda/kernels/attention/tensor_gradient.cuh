// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of softmax attention in bfloat16 on the tensor cores; see tensor.cuh.
///
///   p[t,s] = exp(scale q_t.k_s - lse_t),   dp[t,s] = do_t.v_s,   ds[t,s] = p[t,s] (dp[t,s] - do_t.o_t)
///   dq_t = scale sum_s ds[t,s] k_s,   dk_s = scale sum_t ds[t,s] q_t,   dv_s = sum_t p[t,s] do_t
///
/// One kernel has the queries stay and sums over keys, a second one has the keys stay and sums over queries. That is
/// seven products where five would do, as both compute p and dp. But all sums stay in registers and are added in a
/// fixed order, ds goes from product to product without shared memory, whose traffic is what bounds these kernels, and
/// any number of blocks can share a sequence. A single kernel would have to add dq in memory, block after block.
#pragma once

#include <mad/cuda/kernels/attention/tensor_rows.cuh>

#include <type_traits>

namespace mad::cuda::attention_tensor {

/// What the gradients are made of and where they go.
struct Gradients {
  const BFloat16 *o, *d_o;
  const float* lse;
  BFloat16 *dq, *dk, *dv;
  BFloat16* turned_q;  ///< queries, turned, for the second kernel, in rows without gaps; null if none turn
  float2* of_query;    ///< (batch, heads, padded length): the log-sum-exp of the scores to base 2, and do_t.o_t
  std::size_t o_stride, do_stride, lse_stride, dq_stride, dk_stride, dv_stride;
  int padded_length;
};

/// `Blocks` of 16 queries per warp.
template <int Width, int Blocks>
struct QueryGradient {
  using H = Head<Width>;
  static constexpr int rows = 16 * Blocks * warps;
  static constexpr int tile = 32;  ///< keys that arrive together
  static constexpr int at_once = Width <= 32 ? 3 : 2;

  union Memory {
    struct {
      Tile<rows, H::channels> queries;
      Tile<rows, H::channels> gradients;
      struct {
        Tile<tile, H::channels> keys;
        Tile<tile, H::channels> values;
      } stage[2];
    };
    float staging[rows * staging_stride<Width>];
  };
};

/// dq, and what the other kernel wants to know of each query. The keys are turned already, the queries are not. Grid:
/// see `Place`.
template <int Width, int Blocks>
__global__ void __launch_bounds__(threads, QueryGradient<Width, Blocks>::at_once)
    query_gradient(AttentionSizes n, Operands of, const __grid_constant__ Gradients g) {
  using G = QueryGradient<Width, Blocks>;
  using H = Head<Width>;
  extern __shared__ Line lines[];
  typename G::Memory& memory = *reinterpret_cast<typename G::Memory*>(lines);
  const Place place(n.heads);
  if (place.sequence >= n.batch) return;
  const int head = place.head;
  const int kv_head = head / (n.heads / n.kv_heads);
  const std::size_t sequence = static_cast<std::size_t>(place.sequence) * n.length;
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * G::rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16 * Blocks;
  const BFloat16* k = of.k + sequence * of.k_stride + kv_head * Width;
  const BFloat16* v = of.v + sequence * of.v_stride + kv_head * Width;
  const int begin = max(0, first - n.window) / G::tile * G::tile;
  const int end = min(first + G::rows, n.length);
  const auto fetch_tile = [&](int s0) {
    auto& [keys, values] = memory.stage[s0 / G::tile % 2];
    fetch<Width>({&keys, &values}, {k, v}, {of.k_stride, of.v_stride}, s0, end);
    commit_copies();
  };
  fetch<Width>({&memory.gradients}, {g.d_o + sequence * g.do_stride + head * Width}, {g.do_stride}, first, n.length);
  fetch_tile(begin);
  load_queries<Width>(memory.queries, of.q + sequence * of.q_stride + head * Width, of.q_stride, first, n.length,
                      n.rotation(), g.turned_q == nullptr ? nullptr : g.turned_q + (sequence * n.heads + head) * Width,
                      static_cast<std::size_t>(n.heads) * Width);

  float norm[Blocks][2];
  float product[Blocks][2];
#pragma unroll
  for (int m = 0; m < Blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int t = first + own + m * 16 + h * 8 + lane / 4;
      const std::size_t row = sequence + min(t, n.length - 1);  // without a branch, so that all is on its way at once
      const BFloat16* d_o = g.d_o + row * g.do_stride + head * Width;
      const BFloat16* o = g.o + row * g.o_stride + head * Width;
      float sum = 0;
#pragma unroll
      for (int c = lane % 4 * 8; c < Width; c += 32) {
        float a[8];
        float b[8];
        load(d_o + c, a);
        load(o + c, b);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum += a[i] * b[i];
      }
      norm[m][h] = t < n.length ? g.lse[row * g.lse_stride + head] * log2_e : INFINITY;
      sum = lane_sum<4>(sum);
      product[m][h] = t < n.length ? sum : 0.0f;
      if (lane % 4 == 0)
        g.of_query[(static_cast<std::size_t>(place.sequence) * n.heads + head) * g.padded_length + t] = {norm[m][h],
                                                                                                         product[m][h]};
    }

  const float factor = n.scale * log2_e;  // powers of two are what the hardware computes
  Sums d_query[Blocks][H::columns];
  for (int s0 = begin; s0 < end; s0 += G::tile) {
    wait_for_copies<0>();
    __syncthreads();
    if (s0 + G::tile < end) fetch_tile(s0 + G::tile);
    const int distance = first + own - s0;
    if (!some_seen<16 * Blocks, G::tile>(distance, n.window)) continue;
    const auto& [keys, values] = memory.stage[s0 / G::tile % 2];
    Sums p[Blocks][G::tile / 8];
    Sums d_p[Blocks][G::tile / 8];
    multiply_rows<H::depths>(p, memory.queries, own, keys);
    multiply_rows<H::depths>(d_p, memory.gradients, own, values);
    if (!all_seen<16 * Blocks, G::tile>(distance, n.window)) hide_unseen<false>(p, distance, n.window);
#pragma unroll
    for (int j = 0; j < G::tile / 8; j += 2) {
      Left<16> d_s[Blocks];
#pragma unroll
      for (int m = 0; m < Blocks; ++m) {
#pragma unroll
        for (int b = j; b < j + 2; ++b)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float x = tensor::power_of_two(p[m][b].value[i] * factor - norm[m][i / 2]);
            d_p[m][b].value[i] = x * (d_p[m][b].value[i] - product[m][i / 2]);
          }
        d_s[m] = tensor::as_left(d_p[m][j], d_p[m][j + 1]);
      }
#pragma unroll
      for (int c = 0; c < H::depths; ++c) {
        Right<16> key[2];
        keys.right(j * 8, c, key);
#pragma unroll
        for (int b = 0; b < 2; ++b)
#pragma unroll
          for (int m = 0; m < Blocks; ++m) multiply_add(d_query[m][2 * c + b], d_s[m], key[b]);
      }
    }
  }

  float scale[Blocks][2];
#pragma unroll
  for (int m = 0; m < Blocks; ++m) scale[m][0] = scale[m][1] = n.scale;
  __syncthreads();  // no warp reads tiles any more
  store_rows<Width>(d_query, scale, memory.staging + own * staging_stride<Width>,
                    g.dq + sequence * g.dq_stride + head * Width, g.dq_stride, first + own, n.length, n.rotation());
}

template <int Width>
struct KeyGradient {
  using H = Head<Width>;
  static constexpr int blocks = Width <= 64 ? 2 : 1;  ///< of 16 keys, per warp
  static constexpr int rows = 16 * blocks * warps;
  static constexpr int tile = 64;  ///< queries that arrive together
  static constexpr int at_once = 2;
  /// True if there are registers for a warp's own values as well as for its keys.
  static constexpr bool keeps_values = blocks == 1 || H::depths < 4;

  union Memory {
    struct {
      Tile<rows, H::channels> keys;
      Tile<rows, H::channels> values;
      struct {
        Tile<tile, H::channels> queries;
        Tile<tile, H::channels> gradients;
        float2 of_query[tile];
      } stage[2];
    };
    float staging[rows * staging_stride<Width>];
  };
};

/// dk and dv; queries and keys are turned already. A warp's own keys, and values where possible, stay in registers
/// as left factors. Grid: see `Place`.
template <int Width>
__global__ void __launch_bounds__(threads, KeyGradient<Width>::at_once)
    key_gradient(AttentionSizes n, Operands of, const __grid_constant__ Gradients g) {
  using G = KeyGradient<Width>;
  using H = Head<Width>;
  extern __shared__ Line lines[];
  typename G::Memory& memory = *reinterpret_cast<typename G::Memory*>(lines);
  const Place place(n.kv_heads);
  if (place.sequence >= n.batch) return;
  const int kv_head = place.head;
  const int group = n.heads / n.kv_heads;
  const std::size_t sequence = static_cast<std::size_t>(place.sequence) * n.length;
  const int first = static_cast<int>(blockIdx.y) * G::rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own = static_cast<int>(threadIdx.x) / 32 * 16 * G::blocks;
  const int begin = first / G::tile * G::tile;
  const int end = min(n.length, first + G::rows + n.window);  // behind the last query that sees a key of the block
  const auto fetch_tile = [&](int head, int t0, int stage) {
    auto& to = memory.stage[stage];
    fetch<Width>({&to.queries, &to.gradients},
                 {of.q + sequence * of.q_stride + head * Width, g.d_o + sequence * g.do_stride + head * Width},
                 {of.q_stride, g.do_stride}, t0, end);
    const float2* of_query =
        g.of_query + (static_cast<std::size_t>(place.sequence) * n.heads + head) * g.padded_length + t0;
    if (threadIdx.x < G::tile / 2) copy_async<2>(to.of_query + 2 * threadIdx.x, of_query + 2 * threadIdx.x);
    commit_copies();
  };
  fetch<Width>({&memory.keys, &memory.values},
               {of.k + sequence * of.k_stride + kv_head * Width, of.v + sequence * of.v_stride + kv_head * Width},
               {of.k_stride, of.v_stride}, first, n.length);
  commit_copies();
  int head = kv_head * group;
  int t0 = begin;
  fetch_tile(head, t0, 0);
  wait_for_copies<1>();
  __syncthreads();
  Left<16> key[G::blocks][H::depths];
  Left<16> value[G::blocks][H::depths];
#pragma unroll
  for (int m = 0; m < G::blocks; ++m)
#pragma unroll
    for (int d = 0; d < H::depths; ++d) {
      key[m][d] = memory.keys.left(own + m * 16, d);
      if (G::keeps_values) value[m][d] = memory.values.left(own + m * 16, d);
    }

  const float factor = n.scale * log2_e;  // powers of two are what the hardware computes
  Sums d_key[G::blocks][H::columns];
  Sums d_value[G::blocks][H::columns];
  for (int stage = 0; head < (kv_head + 1) * group; stage ^= 1) {
    const int here = t0;
    t0 += G::tile;
    if (t0 >= end) {
      t0 = begin;
      ++head;
    }
    wait_for_copies<0>();
    __syncthreads();
    if (head < (kv_head + 1) * group) fetch_tile(head, t0, stage ^ 1);
    const auto& [queries, gradients, of_query] = memory.stage[stage];
#pragma unroll 1
    for (int j = 0; j < G::tile; j += 16) {
      const int distance = here + j - first - own;
      if (!some_seen<16, 16 * G::blocks>(distance, n.window)) continue;
      Sums p[G::blocks][2];
      Sums d_p[G::blocks][2];
#pragma unroll
      for (int d = 0; d < H::depths; ++d) {
        Right<16> query[2];
        Right<16> gradient[2];
        queries.right_of_rows(j, d, query);
        gradients.right_of_rows(j, d, gradient);
#pragma unroll
        for (int m = 0; m < G::blocks; ++m)
          if (!G::keeps_values) value[m][d] = memory.values.left(own + m * 16, d);
#pragma unroll
        for (int b = 0; b < 2; ++b)
#pragma unroll
          for (int m = 0; m < G::blocks; ++m) {
            multiply_add(p[m][b], key[m][d], query[b]);
            multiply_add(d_p[m][b], value[m][d], gradient[b]);
          }
      }
      if (!all_seen<16, 16 * G::blocks>(distance, n.window)) hide_unseen<true>(p, -distance, n.window);
      Left<16> mixing[G::blocks];
      Left<16> d_s[G::blocks];
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        float known[4];  // of two neighbouring queries
        load(reinterpret_cast<const float*>(of_query + j + b * 8 + lane % 4 * 2), known);
#pragma unroll
        for (int m = 0; m < G::blocks; ++m)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            p[m][b].value[i] = tensor::power_of_two(p[m][b].value[i] * factor - known[i % 2 * 2]);
            d_p[m][b].value[i] = p[m][b].value[i] * (d_p[m][b].value[i] - known[i % 2 * 2 + 1]);
          }
      }
#pragma unroll
      for (int m = 0; m < G::blocks; ++m) {
        mixing[m] = tensor::as_left(p[m][0], p[m][1]);
        d_s[m] = tensor::as_left(d_p[m][0], d_p[m][1]);
      }
#pragma unroll
      for (int c = 0; c < H::depths; ++c) {
        Right<16> query[2];
        Right<16> gradient[2];
        gradients.right(j, c, gradient);
        queries.right(j, c, query);
#pragma unroll
        for (int b = 0; b < 2; ++b)
#pragma unroll
          for (int m = 0; m < G::blocks; ++m) {
            multiply_add(d_value[m][2 * c + b], mixing[m], gradient[b]);
            multiply_add(d_key[m][2 * c + b], d_s[m], query[b]);
          }
      }
    }
  }

  float scale[G::blocks][2];
  float one[G::blocks][2];
#pragma unroll
  for (int m = 0; m < G::blocks; ++m) {
    scale[m][0] = scale[m][1] = n.scale;
    one[m][0] = one[m][1] = 1;
  }
  __syncthreads();  // no warp reads tiles any more
  float* staging = memory.staging + own * staging_stride<Width>;
  store_rows<Width>(d_value, one, staging, g.dv + sequence * g.dv_stride + kv_head * Width, g.dv_stride, first + own,
                    n.length, Rotation{});
  store_rows<Width>(d_key, scale, staging, g.dk + sequence * g.dk_stride + kv_head * Width, g.dk_stride, first + own,
                    n.length, n.rotation());
}

}  // namespace mad::cuda::attention_tensor

namespace mad::cuda {

/// As `attention_backward`, on the tensor cores; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_backward_tensor(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                               View<const BFloat16> v, View<const BFloat16> o, View<const float> lse,
                               View<const BFloat16> d_o, View<BFloat16> dq, View<BFloat16> dk, View<BFloat16> dv) {
  namespace a = attention_tensor;
  using K = a::KeyGradient<Width>;
  a::Operands of = a::with_turned_keys<Width>(queue, n, a::Operands(q, k, v));
  const bool is_large = a::fills(queue, n, a::QueryGradient<Width, 2>::rows);
  const int rows = is_large ? a::QueryGradient<Width, 2>::rows : a::QueryGradient<Width, 1>::rows;
  const int tiles = (n.length + rows - 1) / rows;
  const Index row_heads = Index{n.batch} * n.heads;
  const a::Gradients gradients{.o = o.data,
                               .d_o = d_o.data,
                               .lse = lse.data,
                               .dq = dq.data,
                               .dk = dk.data,
                               .dv = dv.data,
                               .turned_q = n.rotary > 0 ? queue.take<BFloat16>(row_heads * n.length * Width) : nullptr,
                               .of_query = queue.take<float2>(row_heads * tiles * rows),
                               .o_stride = static_cast<std::size_t>(o.stride),
                               .do_stride = static_cast<std::size_t>(d_o.stride),
                               .lse_stride = static_cast<std::size_t>(lse.stride),
                               .dq_stride = static_cast<std::size_t>(dq.stride),
                               .dk_stride = static_cast<std::size_t>(dk.stride),
                               .dv_stride = static_cast<std::size_t>(dv.stride),
                               .padded_length = tiles * rows};
  const auto launch = [&](auto blocks) {
    using Q = a::QueryGradient<Width, blocks()>;
    queue.launch("the queries' gradient of attention", a::query_gradient<Width, blocks()>,
                 a::grid(queue, n.heads * n.batch, tiles, Q::at_once), dim3(a::threads), sizeof(typename Q::Memory), n,
                 of, gradients);
  };
  if (is_large)
    launch(std::integral_constant<int, 2>{});
  else
    launch(std::integral_constant<int, 1>{});
  if (n.rotary > 0) {
    of.q = gradients.turned_q;
    of.q_stride = static_cast<std::size_t>(n.heads) * Width;
  }
  queue.launch("the keys' gradient of attention", a::key_gradient<Width>,
               a::grid(queue, n.kv_heads * n.batch, (n.length + K::rows - 1) / K::rows, K::at_once), dim3(a::threads),
               sizeof(typename K::Memory), n, of, gradients);
}

}  // namespace mad::cuda
