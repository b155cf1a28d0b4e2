// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gated short convolution, forward: rows of the input come to shared memory once, all that a strip needs at once.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/kernels/short_conv_layout.cuh>

#include <algorithm>
#include <cstddef>

namespace mad::cuda::gated_short_conv_detail {

using short_conv_detail::load_taps;
using short_conv_detail::read;
using short_conv_detail::Strips;
using short_conv_detail::widen;

/// Copies N neighbouring numbers to shared memory, or puts zeros there.
template <int N, class T>
__device__ inline void copy_or_clear(T* shared, const T* global, bool here) {
  if constexpr (N * sizeof(T) == 16)
    copy_or_clear_async(shared, global, here);
  else
    *reinterpret_cast<Chunk<T, N>*>(shared) = here ? *reinterpret_cast<const Chunk<T, N>*>(global) : Chunk<T, N>{};
}

/// How a block of `forward` is cut: `lanes` threads have N gates each and the products as far to the right, and the
/// others take other parts of the strip, whose rows of x are in shared memory: whole, or what each group reads of them.
template <int Taps, int Inner, int Width, int N, int W>
struct ForwardCut {
  static constexpr int taps = Taps;
  static constexpr int inner = Inner;
  static constexpr int width = Width;
  static constexpr int columns = N;
  static constexpr int weights_at_once = W;
  static constexpr int threads = 256;
  static constexpr int chunks = Inner / N;
  static constexpr int lanes = std::min(chunks, threads);
  static constexpr int blocks = (chunks + lanes - 1) / lanes;
  static constexpr int parts = threads / lanes;
  static constexpr int share = lanes * N;  ///< gates of a block
  static constexpr bool whole = 3 * share >= Width;
  static constexpr int held = whole ? Width : 3 * share;  ///< columns
  /// Tokens of a strip, where numbers have \p size bytes: so few that a multiprocessor has room for four of them.
  static constexpr int tokens(int size) { return std::clamp(56 * 1024 / (held * size) - (Taps - 1), 8, 32); }
  static constexpr std::size_t bytes(int size) {
    return static_cast<std::size_t>(tokens(size) + Taps - 1) * held * size;
  }
};

/// u[t,c] = b[c] + sum_j w[c,j] x[t-(K-1)+j, c mod Width];  gate = u_0,  product = u_1 u_2. Grid: (strips, columns).
template <class C, class T, int Piece>
__global__ void __launch_bounds__(C::threads, 4)
    forward(const T* x, std::size_t x_stride, const float* weight, const float* bias, T* gate, std::size_t gate_stride,
            T* product, std::size_t product_stride, const Strips strips) {
  constexpr int n = C::columns;
  constexpr int taps = C::taps;
  extern __shared__ float4 dynamic_memory[];
  T* rows = reinterpret_cast<T*>(dynamic_memory);  // x[t-(K-1)] and the following
  const int first_channel = static_cast<int>(blockIdx.y) * C::share;
  const int first = static_cast<int>(blockIdx.x % strips.per_sequence) * strips.tokens;
  const int count = min(strips.tokens, strips.length - first);
  const std::size_t row = static_cast<std::size_t>(blockIdx.x / strips.per_sequence) * strips.length + first;
  x += (row - (taps - 1)) * x_stride;
  constexpr int pieces = C::held / Piece;
  for (int i = static_cast<int>(threadIdx.x); i < (count + taps - 1) * pieces; i += C::threads) {
    const int r = i / pieces;
    const int h = i % pieces * Piece;
    const int column = C::whole ? h : (h / C::share * C::inner + first_channel + h % C::share) % C::width;
    copy_or_clear<Piece>(rows + r * C::held + h, x + r * x_stride + column, first + r >= taps - 1);
  }
  const int lane = static_cast<int>(threadIdx.x) % C::lanes;
  const int part = static_cast<int>(threadIdx.x) / C::lanes;
  const int channel = first_channel + lane * n;
  const bool here = part < C::parts && channel < C::inner;
  float w[3][n][taps];
  float shift[3][n];
  int place[3];
#pragma unroll
  for (int g = 0; g < 3 && here; ++g) {
    load_taps<C>(weight + (g * C::inner + channel) * taps, w[g]);
#pragma unroll
    for (int c = 0; c < n; ++c) shift[g][c] = bias[g * C::inner + channel + c];
    place[g] = C::whole ? (g * C::inner + channel) % C::width : g * C::share + lane * n;
  }
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  if (!here) return;
  const int of_part = (count + C::parts - 1) / C::parts;
  const int begin = part * of_part;
  const int end = min(begin + of_part, count);
  rows += begin * C::held;
  gate += (row + begin) * gate_stride + channel;
  product += (row + begin) * product_stride + channel;
  float window[3][taps][n];
#pragma unroll
  for (int j = 0; j + 1 < taps; ++j, rows += C::held)
#pragma unroll
    for (int g = 0; g < 3; ++g) widen<T>(read<T, n>(rows + place[g]), window[g][j]);
#pragma unroll taps
  for (int t = begin; t < end; ++t, rows += C::held, gate += gate_stride, product += product_stride) {
    float u[3][n];
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      widen<T>(read<T, n>(rows + place[g]), window[g][taps - 1]);
#pragma unroll
      for (int c = 0; c < n; ++c) {
        u[g][c] = shift[g][c];
#pragma unroll
        for (int j = 0; j < taps; ++j) u[g][c] += w[g][c][j] * window[g][j][c];
#pragma unroll
        for (int j = 0; j + 1 < taps; ++j) window[g][j][c] = window[g][j + 1][c];
      }
    }
#pragma unroll
    for (int c = 0; c < n; ++c) u[1][c] *= u[2][c];
    store(gate, u[0]);
    store(product, u[1]);
  }
}

}  // namespace mad::cuda::gated_short_conv_detail
