// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradient of a gated short convolution: a thread has all channels whose gradients meet in some columns of the input.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/kernels/short_conv_layout.cuh>

#include <algorithm>
#include <numeric>

namespace mad::cuda::gated_short_conv_detail {

using short_conv_detail::add_strips;
using short_conv_detail::load_taps;
using short_conv_detail::read;
using short_conv_detail::Strips;
using short_conv_detail::widen;

/// How many gates, and products, a thread of the backward pass has for each of its columns: a divisor of \p all, so few
/// that it has \p most taps.
constexpr int gates_of(int all, int taps, int most) {
  int gates = all;
  while (gates > 1 && (all % gates != 0 || 3 * gates * taps > most)) --gates;
  return gates;
}

/// How Inner gates and as many products of Width columns are cut. Channels that lie `period` apart read columns that
/// lie as far apart, of which there are three, or only one; so a thread that has these columns has all channels whose
/// gradients meet in them, and both factors of each product. It has N neighbours of each column, which are read at
/// once, and takes some of the gates at a time. Of the taps, W are read at once.
template <int Taps, int Inner, int Width, int N, int W>
struct Cut {
  static constexpr int taps = Taps;
  static constexpr int inner = Inner;
  static constexpr int width = Width;
  static constexpr int columns = N;
  static constexpr int weights_at_once = W;
  static constexpr int period = std::gcd(Inner, Width);
  static constexpr int places = Width / period;  ///< of columns
  static_assert(places == 1 || places == 3);
  static constexpr int all_gates = Inner / period;
  static constexpr int gates = gates_of(all_gates, std::max(Taps, 3) * N, 36);
  static constexpr int rounds = all_gates / gates;
  // A block of `backward` has a share of the columns, and as many strips as fit: all threads for which a multiprocessor
  // has registers. A warp has columns of one strip.
  static constexpr int threads = 384;
  static constexpr int chunks = period / N;
  static constexpr int blocks = (chunks + 127) / 128;
  static constexpr int lanes = ((chunks + blocks - 1) / blocks + 31) / 32 * 32;
  static constexpr int strips = threads / lanes;
};

/// What a warp of `backward` has on its way to it: rows of each place of x, gate and product, and with Factor of what
/// each gate's gradient is to be multiplied with. A lane fetches a piece of one row each, Piece numbers, while the warp
/// works on as many rows. Those of all warps fit into the shared memory of any device.
template <class C, class T, int Piece, bool Factor>
struct Ahead {
  static constexpr int sources = C::places + (Factor ? 3 : 2) * C::gates;
  static constexpr int piece = Piece;
  static constexpr int columns = 32 * C::columns;
  static constexpr int pieces = columns / Piece;  ///< of a row
  static constexpr int bytes = sources * columns * static_cast<int>(sizeof(T));
  static constexpr int rows = std::clamp(3 * 1024 / bytes, 1, 32 / pieces);
  alignas(16) T value[2][sources][rows][columns];
};

/// du_0 = d_gate, times factor if there is one,  du_1 = d_product u_2,  du_2 = d_product u_1;
/// dx[s,i] = sum over c = i mod Width, j of w[c,j] du[s+(K-1)-j, c]; and the sums over the block's strips
/// dw[c,j] = sum_t x[t-(K-1)+j, c mod Width] du[t,c], db[c] = sum_t du[t,c], written to
/// partial (blocks, 3 Inner (K + 1)). Grid: (strips, columns).
///
/// A token's du goes to the sums and to the K rows of dx that it takes part in, of which one is complete then: no du is
/// kept.
template <class C, class T, int Piece, bool Factor>
__global__ void __launch_bounds__(C::threads, 1)
    backward(const T* d_gate, std::size_t d_gate_stride, const T* factor, std::size_t factor_stride, const T* d_product,
             std::size_t d_product_stride, const T* x, std::size_t x_stride, const float* weight, const float* bias,
             T* dx, std::size_t dx_stride, float* partial, const Strips strips) {
  using Ahead = Ahead<C, T, Piece, Factor>;
  constexpr int n = C::columns;
  constexpr int taps = C::taps;
  constexpr int gates = C::gates;
  constexpr int places = C::places;
  constexpr int channels = 3 * C::inner;
  __shared__ float sums[3 * gates * n][C::threads];
  extern __shared__ float4 dynamic_memory[];
  Ahead& memory = reinterpret_cast<Ahead*>(dynamic_memory)[threadIdx.x / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned strip = blockIdx.x * C::strips + threadIdx.x / C::lanes;
  const int first_column = static_cast<int>(blockIdx.y) * C::lanes * n;
  const int column = first_column + static_cast<int>(threadIdx.x) % C::lanes * n;
  const bool here = C::period % (C::lanes * n) == 0 || column < C::period;
  const int first = static_cast<int>(strip % strips.per_sequence) * strips.tokens;
  const int rest = strip < strips.count ? strips.length - first : 0;  // tokens to the end of the sequence
  const int count = min(strips.tokens, rest);
  const int end = min(count + taps - 1, rest);  // du of the last K - 1 is for dx alone
  const std::size_t row = static_cast<std::size_t>(strip / strips.per_sequence) * strips.length + first;
  // The piece of each row that the lane fetches.
  const int piece_row = lane / Ahead::pieces;  // or a later one: then there is none
  const int piece = lane % Ahead::pieces * Piece;
  const int piece_column = column - lane * n + piece;
  partial += static_cast<std::size_t>(blockIdx.x) * channels * (taps + 1);
#pragma unroll 1
  for (int round = 0; round < C::rounds; ++round) {
    const int first_gate = round * gates * C::period;
    // The places follow each other from that of the round's first gate on.
    const auto place = [&](int q) { return (round * gates + q) % places * C::period; };
    const T* x_from = x + (row + piece_row) * x_stride + piece_column;
    const T* gate_from = d_gate + (row + piece_row) * d_gate_stride + first_gate + piece_column;
    const T* factor_from = factor + (row + piece_row) * factor_stride + first_gate + piece_column;
    const T* product_from = d_product + (row + piece_row) * d_product_stride + first_gate + piece_column;
    int fetched = piece_row;
    const auto fetch = [&](int half) {
      if (piece_row < Ahead::rows && fetched < end && piece_column < C::period) {
        const auto copy = [&](int source, const T* from) {
          copy_async_beside_others<Piece>(&memory.value[half][source][piece_row][piece], from);
        };
#pragma unroll
        for (int q = 0; q < places; ++q) copy(q, x_from + place(q));
#pragma unroll
        for (int k = 0; k < gates; ++k) {
          copy(places + k, gate_from + k * C::period);
          copy(places + gates + k, product_from + k * C::period);
          if constexpr (Factor) copy(places + 2 * gates + k, factor_from + k * C::period);
        }
      }
      commit_copies();
      fetched += Ahead::rows;
      x_from += Ahead::rows * x_stride;
      gate_from += Ahead::rows * d_gate_stride;
      if constexpr (Factor) factor_from += Ahead::rows * factor_stride;
      product_from += Ahead::rows * d_product_stride;
    };
    fetch(0);
    float w[3][gates][n][taps]{};
    float shift[2][gates][n]{};  // of the factors
    float d_weight[3][gates][n][taps]{};
    float d_bias[3][gates][n]{};
    float window[places][taps][n]{};  // x[t-(K-1)] and the following
    float sum[places][taps][n]{};     // dx[t-(K-1)] and the following
    if (here) {
#pragma unroll
      for (int p = 0; p < 3; ++p)
#pragma unroll
        for (int k = 0; k < gates; ++k) {
          const int channel = p * C::inner + first_gate + k * C::period + column;
          load_taps<C>(weight + channel * taps, w[p][k]);
#pragma unroll
          for (int c = 0; c < n && p > 0; ++c) shift[p - 1][k][c] = bias[channel + c];
        }
    }
#pragma unroll
    for (int j = 0; j + 1 < taps; ++j)
#pragma unroll
      for (int q = 0; q < places; ++q)
        widen<T>(read<T, n>(x + (row - (taps - 1 - j)) * x_stride + column + place(q),
                            here && rest > 0 && first + j >= taps - 1),
                 window[q][j]);
    T* to = dx + row * dx_stride + column - (taps - 1) * static_cast<std::ptrdiff_t>(dx_stride);
    // Row t-(K-1) of dx is complete.
    const auto finish = [&](bool is_row) {
#pragma unroll
      for (int q = 0; q < places; ++q) {
        if (is_row) {
          if (round > 0) {
            float before[n];
            load(to + place(q), before);
#pragma unroll
            for (int c = 0; c < n; ++c) sum[q][0][c] += before[c];
          }
          store(to + place(q), sum[q][0]);
        }
#pragma unroll
        for (int c = 0; c < n; ++c) {
#pragma unroll
          for (int j = 0; j + 1 < taps; ++j) sum[q][j][c] = sum[q][j + 1][c];
          sum[q][taps - 1][c] = 0;
        }
      }
      to += dx_stride;
    };
    const auto take = [&](int half, int i, int t, bool is_inside) {
      const auto next = [&](int source) { return read<T, n>(&memory.value[half][source][i][lane * n]); };
      float du[3][gates][n];
#pragma unroll
      for (int q = 0; q < places; ++q) widen<T>(next(q), window[q][taps - 1]);
#pragma unroll
      for (int k = 0; k < gates; ++k) {
        float product[n];
        widen<T>(next(places + k), du[0][k]);
        widen<T>(next(places + gates + k), product);
        if constexpr (Factor) {
          float other[n];
          widen<T>(next(places + 2 * gates + k), other);
#pragma unroll
          for (int c = 0; c < n; ++c) du[0][k][c] *= other[c];
        }
#pragma unroll
        for (int c = 0; c < n; ++c) {
          float u[2];
#pragma unroll
          for (int p = 0; p < 2; ++p) {
            const int q = ((p + 1) * C::all_gates + k) % places;
            u[p] = shift[p][k][c];
#pragma unroll
            for (int j = 0; j < taps; ++j) u[p] += w[p + 1][k][c][j] * window[q][j][c];
          }
          du[1][k][c] = product[c] * u[1];
          du[2][k][c] = product[c] * u[0];
        }
      }
#pragma unroll
      for (int p = 0; p < 3; ++p)
#pragma unroll
        for (int k = 0; k < gates; ++k) {
          const int q = (p * C::all_gates + k) % places;
#pragma unroll
          for (int c = 0; c < n; ++c) {
#pragma unroll
            for (int j = 0; j < taps; ++j) sum[q][j][c] += w[p][k][c][j] * du[p][k][c];
            if (!is_inside) continue;
            d_bias[p][k][c] += du[p][k][c];
#pragma unroll
            for (int j = 0; j < taps; ++j) d_weight[p][k][c][j] += du[p][k][c] * window[q][j][c];
          }
        }
      finish(here && t >= taps - 1);
#pragma unroll
      for (int q = 0; q < places; ++q)
#pragma unroll
        for (int j = 0; j + 1 < taps; ++j)
#pragma unroll
          for (int c = 0; c < n; ++c) window[q][j][c] = window[q][j + 1][c];
    };
#pragma unroll 1
    for (int begin = 0, half = 0; begin < end; begin += Ahead::rows, half ^= 1) {
      __syncwarp();  // all lanes have read what comes next into the other half's place
      fetch(half ^ 1);
      wait_for_copies<1>();
      __syncwarp();
      if (begin + Ahead::rows <= count) {
#pragma unroll 4
        for (int i = 0; i < Ahead::rows; ++i) take(half, i, begin + i, true);
      } else {
#pragma unroll 1
        for (int i = 0; i < Ahead::rows && begin + i < end; ++i) take(half, i, begin + i, begin + i < count);
      }
    }
    // At the end of a sequence the last rows get nothing more.
#pragma unroll
    for (int j = 0; j + 1 < taps; ++j) {
      const int s = end - (taps - 1) + j;
      finish(here && s >= 0 && s < count);
    }
    // The sums over the strips, one tap after the other.
#pragma unroll
    for (int j = 0; j <= taps; ++j) {
      add_strips<3 * gates, n, C::lanes, C::strips>(
          sums,
          [&](int r, int c) {
            return j < taps ? d_weight[r / gates][r % gates][c][j % taps] : d_bias[r / gates][r % gates][c];
          },
          [&](int r, int inside, float total) {
            if (first_column + inside >= C::period) return;
            const int channel = r / gates * C::inner + first_gate + r % gates * C::period + first_column + inside;
            partial[j < taps ? channel * taps + j : channels * taps + channel] = total;
          });
    }
  }
}

}  // namespace mad::cuda::gated_short_conv_detail
