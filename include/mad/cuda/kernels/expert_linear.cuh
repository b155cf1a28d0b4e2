// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The weighted mean of the linear maps of experts, and its gradients.
///
/// A row of the weight holds an output's weights of all experts side by side, so that with x' = [p_1 x, ..., p_E x] the
/// mean is one matrix product, y = x' W^T + p b^T, and so are dy W = [g_1, ..., g_E] and dW = dy^T x'. Rows are taken
/// some thousands at a time: the wide matrices then stay in the cache between the kernels that write and read them.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/kernels/column_recurrence.cuh>
#include <mad/cuda/kernels/linear.cuh>
#include <mad/ops/expert_linear.hpp>

#include <algorithm>
#include <bit>

namespace mad::cuda {

namespace expert_linear_detail {

/// Rows of one round: enough tiles of a product to keep a large GPU busy.
inline constexpr Index round_rows = 16384;

/// Calls round(first, count) for all rows. Rounds use the same workspace, one after the other.
template <class Round>
void for_rounds(Queue& queue, Index rows, const Round& round) {
  for (Index first = 0; first < rows; first += round_rows) {
    queue.release();
    round(first, std::min(round_rows, rows - first));
  }
}

/// wide[r, e In + j] = p[r, e] x[r, j]. One thread per chunk of x.
template <int Experts, int In, int Chunk, class T>
__global__ void __launch_bounds__(256)
    scale(const T* x, std::size_t x_stride, const T* p, std::size_t p_stride, T* wide, unsigned chunks) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= chunks) return;
  constexpr unsigned per_row = In / Chunk;
  const std::size_t row = index / per_row;
  const unsigned column = index % per_row * Chunk;
  float value[Chunk];
  load(x + row * x_stride + column, value);
  p += row * p_stride;
  wide += row * (Experts * In) + column;
#pragma unroll 8
  for (int e = 0; e < Experts; ++e) {
    const float share = to_float(p[e]);
    float scaled[Chunk];
#pragma unroll
    for (int i = 0; i < Chunk; ++i) scaled[i] = share * value[i];
    store(wide + e * In, scaled);
  }
}

/// From wide = [g_1, ..., g_E]: dx = sum_e p_e g_e and dp_e = x . g_e, added to what is there where `Add`. Leaves
/// wide = [p_1 x, ..., p_E x]. One warp per row.
template <int Experts, int In, int Chunk, bool Add, class T, class U, class V>
__global__ void __launch_bounds__(256)
    backward(T* wide, const T* x, std::size_t x_stride, const T* p, std::size_t p_stride, U* dx, std::size_t dx_stride,
             V* dp, std::size_t dp_stride, unsigned rows) {
  const std::size_t row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (row >= rows) return;  // a whole warp
  const int lane = static_cast<int>(threadIdx.x % 32);
  constexpr int group = Experts < 16 ? Experts : 16;  // experts whose sums a lane holds at a time
  x += row * x_stride;
  p += row * p_stride;
  dx += row * dx_stride;
  dp += row * dp_stride;
  wide += row * (Experts * In);
  constexpr int rounds = (In / Chunk + 31) / 32;
  float sum[rounds][Chunk]{};
  for (int first = 0; first < Experts; first += group) {
    float product[group]{};
#pragma unroll
    for (int r = 0; r < rounds; ++r) {
      const int column = (r * 32 + lane) * Chunk;
      if (column >= In) continue;
      float value[Chunk];
      load(x + column, value);
#pragma unroll
      for (int e = 0; e < group; ++e) {
        if (first + e >= Experts) break;
        const float share = to_float(p[first + e]);
        T* at = wide + (first + e) * In + column;
        float g[Chunk];
        load(at, g);
#pragma unroll
        for (int i = 0; i < Chunk; ++i) {
          product[e] += value[i] * g[i];
          sum[r][i] += share * g[i];
          g[i] = share * value[i];
        }
        store(at, g);
      }
    }
    sum_to_lanes<32>(product, lane, [&](int e, float s) {
      if (first + e < Experts) dp[first + e] = from_float<V>(Add ? to_float(dp[first + e]) + s : s);
    });
  }
#pragma unroll
  for (int r = 0; r < rounds; ++r) {
    const int column = (r * 32 + lane) * Chunk;
    if (column < In) store(dx + column, sum[r]);
  }
}

}  // namespace expert_linear_detail

template <>
struct Kernel<&ops::expert_linear_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = expert_linear_detail;
    constexpr int in = C::operand(0).width;
    constexpr int experts = C::operand(1).width;
    constexpr int out = C::node.width;
    constexpr int chunk = common_chunk<in, C::template in_chunk<0>()>();
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    static_assert(std::is_same_v<T, typename C::template In<1>>);
    Queue& queue = call.queue();
    d::for_rounds(queue, call.rows(), [&](Index r, Index some) {
      T* wide = queue.template take<T>(some * experts * in);
      const T* weight = linear_detail::in_type<2, T>(call);
      const auto x = call.template in<0>().rows_from(r);
      const auto p = call.template in<1>().rows_from(r);
      const auto y = call.out().rows_from(r);
      const Index chunks = some * (in / chunk);
      queue.launch("the inputs of experts", d::scale<experts, in, chunk, T>, sum_detail::blocks(chunks, 256), dim3(256),
                   0, x.data, x.stride, p.data, p.stride, wide, chunks);
      Added<U> added;
      if constexpr (C::has(3)) {
        const T* bias = linear_detail::in_type<3, T>(call);
        matrix_product<T, U>(queue, some, out, experts, {p.data, p.stride}, {bias, experts, true}, y.data, y.stride);
        added = {.addend = y.data, .stride = y.stride};
      }
      matrix_product<T, U>(queue, some, out, experts * in, {wide, experts * in}, {weight, experts * in, true}, y.data,
                           y.stride, added);
    });
  }
};

//   with g_e = dy W_e:
//   dx = sum_e p_e g_e,  dp_e = x . g_e + dy . b_e,  dW_e = dy^T (p_e x),  db_e = sum over rows of p_e dy
template <>
struct Kernel<&ops::expert_linear_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = expert_linear_detail;
    constexpr int in = C::node.width;
    constexpr int experts = C::operand(2).width;
    constexpr int out = C::operand(0).width;
    constexpr bool has_bias = C::has(4);
    constexpr int all_lanes_busy = std::max(1, static_cast<int>(std::bit_floor(in / 32u)));
    constexpr int chunk = common_chunk<in, C::template in_chunk<1>(), C::template out_chunk<0>(), all_lanes_busy>();
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    using V = typename C::template Out<1>;
    static_assert(std::is_same_v<T, typename C::template In<1>> && std::is_same_v<T, typename C::template In<2>>);
    Queue& queue = call.queue();
    d::for_rounds(queue, call.rows(), [&](Index r, Index some) {
      T* wide = queue.template take<T>(some * experts * in);
      const T* weight = linear_detail::in_type<3, T>(call);
      const auto dy = call.template in<0>().rows_from(r);
      const auto x = call.template in<1>().rows_from(r);
      const auto p = call.template in<2>().rows_from(r);
      const auto dx = call.template out<0>().rows_from(r);
      const auto dp = call.template out<1>().rows_from(r);
      if constexpr (has_bias) {
        const T* bias = linear_detail::in_type<4, T>(call);
        float* d_bias = call.template out<3>().data;
        matrix_product<T, V>(queue, some, experts, out, {dy.data, dy.stride}, {bias, experts}, dp.data, dp.stride);
        matrix_product<T, float>(queue, out, experts, some, {dy.data, dy.stride, true}, {p.data, p.stride}, d_bias,
                                 experts, {.addend = d_bias, .stride = experts});
      }
      matrix_product<T, T>(queue, some, experts * in, out, {dy.data, dy.stride}, {weight, experts * in}, wide,
                           experts * in);
      queue.launch("the gradient of experts", d::backward<experts, in, chunk, has_bias, T, U, V>,
                   sum_detail::blocks(some * 32, 256), dim3(256), 0, wide, x.data, x.stride, p.data, p.stride, dx.data,
                   dx.stride, dp.data, dp.stride, some);
      float* d_weight = call.template out<2>().data;
      matrix_product<T, float>(queue, out, experts * in, some, {dy.data, dy.stride, true}, {wide, experts * in},
                               d_weight, experts * in, {.addend = d_weight, .stride = experts * in});
    });
  }
};

}  // namespace mad::cuda
