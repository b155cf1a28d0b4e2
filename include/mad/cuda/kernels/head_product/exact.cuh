// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products of two maps shared by heads in float, for narrow heads of any width.
#pragma once

#include <mad/cuda/kernels/column_recurrence.cuh>
#include <mad/cuda/kernels/head_product/maps.cuh>

#include <algorithm>

namespace mad::cuda::head_product {

inline constexpr int exact_threads = 256;

/// Weights and biases to shared memory, both maps one behind the other.
template <int In, int Out>
__device__ inline void stage_maps(const Maps& maps, float* weight, float* bias) {
  const auto stage = [](const float* const(&from)[2], int count, float* to) {
    for (int i = static_cast<int>(threadIdx.x); i < 2 * count; i += exact_threads)
      to[i] = i < count ? from[0][i] : from[1][i - count];
  };
  stage(maps.weight, Out * In, weight);
  stage(maps.bias, Out, bias);
}

/// Outputs [o, o + N) of both maps. `x(i)` gives channel i of the item.
template <int In, int Out, int N, class X>
__device__ inline void apply_both(const X& x, const float* weight, const float* bias, int o, float (&a)[N],
                                  float (&c)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    a[k] = bias[o + k];
    c[k] = bias[Out + o + k];
  }
#pragma unroll
  for (int i = 0; i < In; ++i) {
    const float value = x(i);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      a[k] += value * weight[(o + k) * In + i];
      c[k] += value * weight[(Out + o + k) * In + i];
    }
  }
}

/// One thread per item.
template <int Heads, int In, int Out, int InChunk, int OutChunk, class T, class U>
__global__ void __launch_bounds__(exact_threads)
    forward_exact(const T* x, unsigned x_stride, const Maps maps, U* y, unsigned y_stride, unsigned items) {
  __shared__ alignas(16) float weight[2 * Out * In];
  __shared__ float bias[2 * Out];
  stage_maps<In, Out>(maps, weight, bias);
  __syncthreads();
  const unsigned item = blockIdx.x * exact_threads + threadIdx.x;
  if (item >= items) return;
  float value[In];
  load_row<InChunk>(x + begin_of<Heads, In>(item, x_stride), value);
  y += begin_of<Heads, Out>(item, y_stride);
#pragma unroll 1
  for (int o = 0; o < Out; o += OutChunk) {
    float a[OutChunk], c[OutChunk];
    apply_both<In, Out>([&](int i) { return value[i]; }, weight, bias, o, a, c);
#pragma unroll
    for (int k = 0; k < OutChunk; ++k) a[k] *= c[k];
    store(y + o, a);
  }
}

/// How a block works through its items. Their channels, and the gradients of both factors, lie in shared memory; each
/// thread is in charge of `per_thread` neighbours in a row of [dW1; dW2], for the items of its group.
template <int In, int Out>
struct ExactTiles {
  /// Rows of shared memory of which eight neighbours, read four channels at a time, lie in different banks.
  static constexpr int padded(int width) { return width % 8 == 0 ? width + 4 : width; }
  static constexpr int items = std::min(256, 2048 / power_of_two_from(std::max(In, Out)));
  static constexpr int value_stride = padded(In);
  static constexpr int gradient_stride = padded(2 * Out);
  static constexpr int per_thread = In % 4 == 0 ? 4 : 1;
  static constexpr int pieces = 2 * Out * In / per_thread;
  static constexpr int rounds = (pieces + exact_threads - 1) / exact_threads;  ///< of a thread over the pieces
  static constexpr int groups = std::max(1, exact_threads / pieces);
};

/// dx, and the block's sums for the maps' gradients to partial[block].
template <int Heads, int In, int Out, int InChunk, int OutChunk, class T, class X, class U>
__global__ void __launch_bounds__(exact_threads)
    backward_exact(const T* dy, unsigned dy_stride, const X* x, unsigned x_stride, const Maps maps, U* dx,
                   unsigned dx_stride, float* partial, unsigned items) {
  using G = Gradients<In, Out>;
  using Tiles = ExactTiles<In, Out>;
  __shared__ alignas(16) float weight[2 * Out * In];
  __shared__ float bias[2 * Out];
  __shared__ alignas(16) float value[Tiles::items * Tiles::value_stride];
  __shared__ alignas(16) float gradient[Tiles::items * Tiles::gradient_stride];
  __shared__ float sums[Tiles::groups * G::all];
  stage_maps<In, Out>(maps, weight, bias);
  const auto thread = static_cast<int>(threadIdx.x);
  const int group = Tiles::rounds == 1 ? thread / Tiles::pieces : 0;
  float d_weight[Tiles::rounds][Tiles::per_thread]{};
  float d_bias[Tiles::rounds]{};
  /// visit(round, row, column) for the thread's pieces.
  const auto for_pieces = [&](const auto& visit) {
#pragma unroll
    for (int r = 0; r < Tiles::rounds; ++r) {
      const int piece = Tiles::rounds == 1 ? thread % Tiles::pieces : r * exact_threads + thread;
      if (group < Tiles::groups && piece < Tiles::pieces)
        visit(r, piece * Tiles::per_thread / In, piece * Tiles::per_thread % In);
    }
  };
  for (unsigned first = blockIdx.x * Tiles::items; first < items; first += gridDim.x * Tiles::items) {
    __syncthreads();  // the last items are used up
    for (int i = thread; i < Tiles::items * (In / InChunk); i += exact_threads) {
      const int column = i % (In / InChunk) * InChunk;
      const unsigned item = first + i / (In / InChunk);
      float part[InChunk]{};
      if (item < items) load(x + begin_of<Heads, In>(item, x_stride) + column, part);
      store(value + i / (In / InChunk) * Tiles::value_stride + column, part);
    }
    __syncthreads();
    for (int i = thread; i < Tiles::items * (Out / OutChunk); i += exact_threads) {
      const int at = i % Tiles::items;
      const int o = i / Tiles::items * OutChunk;
      float g[OutChunk]{};
      if (first + at < items) load(dy + begin_of<Heads, Out>(first + at, dy_stride) + o, g);
      float a[OutChunk], c[OutChunk];
      apply_both<In, Out>([&](int k) { return value[at * Tiles::value_stride + k]; }, weight, bias, o, a, c);
#pragma unroll
      for (int k = 0; k < OutChunk; ++k) {
        a[k] *= g[k];
        c[k] *= g[k];
      }
      store(gradient + at * Tiles::gradient_stride + o, c);
      store(gradient + at * Tiles::gradient_stride + Out + o, a);
    }
    __syncthreads();
    for (int i = thread; i < Tiles::items * (In / InChunk); i += exact_threads) {
      const int at = i % Tiles::items;
      const int column = i / Tiles::items * InChunk;
      float sum[InChunk]{};
#pragma unroll
      for (int o = 0; o < 2 * Out; ++o) {
        const float g = gradient[at * Tiles::gradient_stride + o];
#pragma unroll
        for (int k = 0; k < InChunk; ++k) sum[k] += g * weight[o * In + column + k];
      }
      if (first + at < items) store(dx + begin_of<Heads, In>(first + at, dx_stride) + column, sum);
    }
    for_pieces([&](int r, int o, int i) {
#pragma unroll 4
      for (int at = group; at < Tiles::items; at += Tiles::groups) {
        float factor[Tiles::per_thread];
        load(value + at * Tiles::value_stride + i, factor);
        const float g = gradient[at * Tiles::gradient_stride + o];
        d_bias[r] += g;
#pragma unroll
        for (int k = 0; k < Tiles::per_thread; ++k) d_weight[r][k] += g * factor[k];
      }
    });
  }
  for_pieces([&](int r, int o, int i) {
    float* of_group = sums + group * G::all;
#pragma unroll
    for (int k = 0; k < Tiles::per_thread; ++k) of_group[G::weight(o / Out, o % Out, i + k)] = d_weight[r][k];
    if (i == 0) of_group[G::bias(o / Out, o % Out)] = d_bias[r];
  });
  __syncthreads();
  for (int c = thread; c < G::all; c += exact_threads) {
    float sum = 0;
#pragma unroll
    for (int k = 0; k < Tiles::groups; ++k) sum += sums[k * G::all + c];
    partial[std::size_t{blockIdx.x} * G::all + c] = sum;
  }
}

}  // namespace mad::cuda::head_product
