// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Filters by their rational transfer functions, and the gradients of the coefficients.
///
/// Transfer functions K = B / A are evaluated at the frequencies 0 .. M/2 and transformed by plain sums, which are as
/// exact as sums in float are and want no particular number of points M. Sums over cosines are even in time and sums
/// over sines odd, so that half of the points give the others.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/rational_filter.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mad::cuda {

namespace rational_filter_detail {

/// exp(2 pi i j / M) for j = 0 .. M - 1, evaluated in double.
struct Circle {
  const float2* point;
  unsigned points;  ///< M, even, at most 2^17

  /// Number j k, for j and k up to M/2 and a tile more.
  __device__ float2 at(unsigned j, unsigned k) const { return point[j * k % points]; }
  /// Frequencies 0 .. M/2; of the others the filters have the conjugates.
  __host__ __device__ unsigned frequencies() const { return points / 2 + 1; }
  /// How often a frequency, or a time, counts among all M.
  __device__ float count(unsigned k) const { return k == 0 || k == points / 2 ? 1.0f : 2.0f; }
};

inline Circle circle(Queue& queue, const Shape& shape) {
  constexpr double circles = 1853187683;  // tells the table from those of other kernels
  const Index points = shape.max_length + shape.max_length % 2;
  if (points > 1 << 17) throw Error("CUDA: rational filters have at most 131072 positions");  // see Circle::at
  const float2* table = queue.table<float2>({static_cast<double>(points), 0, 0, circles}, points, [&](float2* to) {
    for (Index j = 0; j < points; ++j) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(points);
      to[j] = {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
    }
  });
  return {table, static_cast<unsigned>(points)};
}

struct Complex {
  float re, im;
};
__device__ inline Complex operator*(Complex a, Complex b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

inline constexpr int run = 8;  ///< frequencies of a thread

/// K = B / A and 1 / A at the frequencies 0 .. M/2, both (frequencies, Channels); `ab` holds denominators, then
/// numerators, of `States` coefficients. One thread per channel and run of frequencies.
template <int Channels, int Denominators, int States>
__global__ void __launch_bounds__(128) evaluate(const float* ab, Circle circle, Complex* transfer, Complex* inverse) {
  const unsigned channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= Channels) return;
  const float* a = ab + channel / (Channels / Denominators) * States;
  const float* b = ab + (Denominators + channel) * States;
  const unsigned first = blockIdx.y * run;
  Complex above[run]{};
  Complex below[run];
#pragma unroll
  for (int u = 0; u < run; ++u) below[u] = {1, 0};
#pragma unroll 4
  for (int j = 0; j < States; ++j) {
    const float of_a = a[j];
    const float of_b = b[j];
#pragma unroll
    for (int u = 0; u < run; ++u) {
      const float2 turn = circle.at(j + 1, first + u);
      below[u].re += of_a * turn.x;
      below[u].im -= of_a * turn.y;
      above[u].re += of_b * turn.x;
      above[u].im -= of_b * turn.y;
    }
  }
#pragma unroll
  for (int u = 0; u < run; ++u) {
    if (first + u >= circle.frequencies()) break;
    const float scale = 1 / (below[u].re * below[u].re + below[u].im * below[u].im);
    const Complex reciprocal{below[u].re * scale, -below[u].im * scale};
    const std::size_t at = std::size_t{first + u} * Channels + channel;
    transfer[at] = above[u] * reciprocal;
    inverse[at] = reciprocal;
  }
}

inline constexpr int tile_rows = 32;
inline constexpr int tile_columns = 64;
inline constexpr int tile_terms = 32;
inline constexpr int tile_threads = 128;

/// even[i, c] = sum_j cos(2 pi i j / M) p(j, c) and odd[i, c] = sum_j sin(2 pi i j / M) q(j, c) over j < terms, for a
/// tile of rows i and columns c: `load_term(j, c)` gives p and q, `store_sums(i, c, even, odd)` takes the sums.
template <class Load, class Store>
__device__ inline void transform(const Circle& circle, unsigned rows, unsigned columns, unsigned terms,
                                 const Load& load_term, const Store& store_sums) {
  __shared__ float2 turn[tile_terms][tile_rows];
  __shared__ alignas(16) float p[tile_terms][tile_columns];
  __shared__ alignas(16) float q[tile_terms][tile_columns];
  const unsigned first_row = blockIdx.y * tile_rows;
  const unsigned first_column = blockIdx.x * tile_columns;
  // A thread has four neighbouring columns, and rows y, y + 8, y + 16, y + 24 of the tile.
  const unsigned x = threadIdx.x % 16 * 4;
  const unsigned y = threadIdx.x / 16;
  float even[4][4]{};
  float odd[4][4]{};
  for (unsigned first = 0; first < terms; first += tile_terms) {
    __syncthreads();  // the last terms are used up
    for (unsigned i = threadIdx.x; i < tile_terms * tile_rows; i += tile_threads)
      turn[i / tile_rows][i % tile_rows] = circle.at(first + i / tile_rows, first_row + i % tile_rows);
#pragma unroll 8
    for (unsigned i = threadIdx.x; i < tile_terms * tile_columns; i += tile_threads) {
      const unsigned j = first + i / tile_columns;
      const unsigned c = first_column + i % tile_columns;
      float2 term{0, 0};
      if (j < terms && c < columns) term = load_term(j, c);
      p[i / tile_columns][i % tile_columns] = term.x;
      q[i / tile_columns][i % tile_columns] = term.y;
    }
    __syncthreads();
#pragma unroll 8
    for (int j = 0; j < tile_terms; ++j) {
      float of_p[4];
      float of_q[4];
      load(&p[j][x], of_p);
      load(&q[j][x], of_q);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 of_row = turn[j][y + 8 * i];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          even[i][k] += of_row.x * of_p[k];
          odd[i][k] += of_row.y * of_q[k];
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const unsigned row = first_row + y + 8 * i;
      const unsigned column = first_column + x + k;
      if (row < rows && column < columns) store_sums(row, column, even[i][k], odd[i][k]);
    }
  }
}

inline dim3 tiles(unsigned rows, unsigned columns) {
  return dim3((columns + tile_columns - 1) / tile_columns, (rows + tile_rows - 1) / tile_rows);
}

/// h_t = 1/M sum_k K_k exp(2 pi i t k / M) over all M frequencies, + h_0 at t = 0; for t < length.
template <int Channels, class H>
__global__ void __launch_bounds__(tile_threads)
    respond(const Complex* transfer, const float* h_0, Circle circle, H* h, std::size_t h_stride, unsigned length) {
  const float scale = 1.0f / static_cast<float>(circle.points);
  transform(
      circle, min(length, circle.points / 2 + 1), Channels, circle.frequencies(),
      [&](unsigned k, unsigned c) {
        const Complex value = transfer[std::size_t{k} * Channels + c];
        const float factor = scale * circle.count(k);
        return float2{factor * value.re, factor * value.im};
      },
      [&](unsigned t, unsigned c, float even, float odd) {
        h[t * h_stride + c] = from_float<H>(even - odd + (t == 0 ? h_0[c] : 0.0f));
        const unsigned mirrored = circle.points - t;
        if (mirrored != t && mirrored < length) h[mirrored * h_stride + c] = from_float<H>(even + odd);
      });
}

/// With G = DFT(dh), the parts of frequency k in the gradients of the coefficients: U = conj(G) / (A M) and V = -U K,
/// twice that where the conjugate frequency counts too. U takes the place of 1 / A, V that of K.
template <int Channels, class H>
__global__ void __launch_bounds__(tile_threads)
    weigh(const H* dh, std::size_t dh_stride, Circle circle, Complex* transfer, Complex* inverse, unsigned length) {
  const float scale = 1.0f / static_cast<float>(circle.points);
  transform(
      circle, circle.frequencies(), Channels, min(length, circle.points / 2 + 1),
      [&](unsigned t, unsigned c) {
        const float one = to_float(dh[t * dh_stride + c]);
        const unsigned mirrored = circle.points - t;
        if (mirrored == t || mirrored >= length) return float2{one, one};
        const float other = to_float(dh[mirrored * dh_stride + c]);
        return float2{one + other, one - other};
      },
      [&](unsigned k, unsigned c, float even, float odd) {
        const std::size_t at = std::size_t{k} * Channels + c;
        const float factor = scale * circle.count(k);
        const Complex conjugate{factor * even, factor * odd};  // G = even - i odd
        const Complex u = conjugate * inverse[at];
        const Complex v = u * transfer[at];
        inverse[at] = u;
        transfer[at] = {-v.re, -v.im};
      });
}

/// Parts of the sums over frequencies k of Re(z_k exp(-2 pi i j k / M)), j = 1 .. States, into the rows of `to`:
/// z = V per channel, then z = U per channel. Block (32 channels, half, share of the frequencies); a warp takes every
/// eighth frequency of the share.
template <int Channels, int States>
__global__ void __launch_bounds__(256) gather(const Complex* v, const Complex* u, Circle circle, float* to) {
  __shared__ float sums[8][32];
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned channel = blockIdx.x * 32 + lane;
  const bool here = channel < Channels;
  const Complex* z = blockIdx.y == 0 ? v : u;
  float sum[States]{};
  for (unsigned k = blockIdx.z * 8 + warp; k < circle.frequencies(); k += gridDim.z * 8) {
    const Complex value = here ? z[std::size_t{k} * Channels + channel] : Complex{};
#pragma unroll
    for (int j = 0; j < States; ++j) {
      const float2 turn = circle.at(j + 1, k);
      sum[j] += value.re * turn.x + value.im * turn.y;
    }
  }
  to += ((std::size_t{blockIdx.z} * 2 + blockIdx.y) * Channels + channel) * States;
#pragma unroll
  for (int j = 0; j < States; ++j) {
    sums[warp][lane] = sum[j];
    __syncthreads();
    if (warp == 0 && here) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < 8; ++w) total += sums[w][lane];
      to[j] = total;
    }
    __syncthreads();
  }
}

/// Adds the shares up, and the channels that have a denominator together; d_ab += that. Also d_h_0 += dh[0].
template <int Channels, int Denominators, int States, class H>
__global__ void __launch_bounds__(128) add_up(const float* parts, int shares, const H* dh, float* d_ab, float* d_h_0) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < Channels) d_h_0[index] += to_float(dh[index]);
  if (index >= (Denominators + Channels) * States) return;
  constexpr unsigned together = Channels / Denominators;
  const unsigned row = index / States;
  const bool below = row < Denominators;
  const unsigned first = below ? row * together : Channels + row - Denominators;
  const unsigned count = below ? together : 1;
  float sum = 0;
  for (int s = 0; s < shares; ++s) {
    const float* from = parts + (std::size_t(s) * 2 * Channels + first) * States + index % States;
#pragma unroll 4
    for (unsigned c = 0; c < count; ++c) sum += from[c * States];
  }
  d_ab[index] += sum;
}

/// Sizes of the filters whose coefficients are `ab`.
template <class C, int Ab, int H0>
struct Sizes {
  static constexpr int channels = C::operand(H0).width;
  static constexpr int states = C::node.attribute[ops::rational_filter::state_size];
  static constexpr int denominators = C::operand(Ab).width / states - channels;
};

/// Memory for K and 1 / A, filled.
template <class S>
struct TransferFunctions {
  Complex* transfer;
  Complex* inverse;

  TransferFunctions(Queue& queue, const float* ab, const Circle& circle)
      : transfer(queue.take<Complex>(Index{circle.frequencies()} * S::channels)),
        inverse(queue.take<Complex>(Index{circle.frequencies()} * S::channels)) {
    queue.launch("transfer functions", evaluate<S::channels, S::denominators, S::states>,
                 dim3((S::channels + 127) / 128, (circle.frequencies() + run - 1) / run), dim3(128), 0, ab, circle,
                 transfer, inverse);
  }
};

}  // namespace rational_filter_detail

template <>
struct Kernel<&ops::rational_filter_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = rational_filter_detail;
    using S = d::Sizes<C, 0, 1>;
    using H = typename C::template Out<0>;
    const d::Circle circle = d::circle(call.queue(), call.shape());
    const d::TransferFunctions<S> k(call.queue(), call.template in<0>().data, circle);
    const auto h = call.out();
    const auto length = static_cast<unsigned>(call.rows());
    call.queue().launch("impulse responses", d::respond<S::channels, H>,
                        d::tiles(std::min(length, circle.points / 2 + 1), S::channels), dim3(d::tile_threads), 0,
                        k.transfer, call.template in<1>().data, circle, h.data, h.stride, length);
  }
};

//   with G = DFT_M(dh) and P = conj(G) / A:
//   db_j = 1/M sum_k Re(P_k e^{-2 pi i j k / M}),  da_j = -1/M sum_k Re(P_k K_k e^{-2 pi i j k / M}),
//   summed over the channels that share a denominator;  dh_0 = dh[0]
template <>
struct Kernel<&ops::rational_filter_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = rational_filter_detail;
    using S = d::Sizes<C, 1, 2>;
    using H = typename C::template In<0>;
    Queue& queue = call.queue();
    const d::Circle circle = d::circle(queue, call.shape());
    const d::TransferFunctions<S> k(queue, call.template in<1>().data, circle);
    const auto dh = call.template in<0>();
    const auto length = static_cast<unsigned>(rows_of(C::operand(0).domain, call.shape()));
    queue.launch("the gradient of transfer functions", d::weigh<S::channels, std::remove_const_t<H>>,
                 d::tiles(circle.frequencies(), S::channels), dim3(d::tile_threads), 0, dh.data, dh.stride, circle,
                 k.transfer, k.inverse, length);
    constexpr unsigned column_blocks = (S::channels + 31) / 32;
    const unsigned shares = std::clamp(circle.frequencies() / 64, 1u, 8u);
    float* parts = queue.take<float>(Index{shares} * 2 * S::channels * S::states);
    queue.launch("sums over frequencies", d::gather<S::channels, S::states>, dim3(column_blocks, 2, shares), dim3(256),
                 0, k.transfer, k.inverse, circle, parts);
    queue.launch("the gradient of a rational filter", d::add_up<S::channels, S::denominators, S::states, H>,
                 sum_detail::blocks((S::denominators + S::channels) * S::states, 128), dim3(128), 0, parts, shares,
                 dh.data, call.template out<0>().data, call.template out<1>().data);
  }
};

}  // namespace mad::cuda
