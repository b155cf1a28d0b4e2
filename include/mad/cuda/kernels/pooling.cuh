// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What lies between an auto-encoder's encoder and decoder: one vector per sequence, and a row of it per position.
///
///     y_n = z + P[n],  z = the last row or the mean of all rows:   dz = sum over n of dy_n
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>
#include <mad/models/model.hpp>

namespace mad::cuda {

namespace pooling_detail {

inline constexpr int threads = 128;

/// sums[b, c] = factor times the sum of x[b, t, c] over t from `first` on, in order. Grid: sequences.
template <class T>
__global__ void __launch_bounds__(threads)
    sum_rows(const T* x, float* sums, int length, int first, int width, float factor) {
  const std::size_t sequence = blockIdx.x;
  for (int c = static_cast<int>(threadIdx.x); c < width; c += threads) {
    const T* column = x + sequence * length * width + c;
    float sum = 0;
#pragma unroll 8
    for (int t = first; t < length; ++t) sum += to_float(column[static_cast<std::size_t>(t) * width]);
    sums[sequence * width + c] = factor * sum;
  }
}

/// y[b, t, c] = z[b, c] + table[t, c] for t from `first` on (no table where null), 0 before.
template <class T>
__global__ void __launch_bounds__(threads) spread(const float* z, const float* table, T* y, unsigned length,
                                                  unsigned first, unsigned width, unsigned elements) {
  const unsigned index = blockIdx.x * threads + threadIdx.x;
  if (index >= elements) return;
  const unsigned per_sequence = length * width;
  const unsigned inside = index % per_sequence;
  float value = 0;
  if (inside >= first * width) value = z[index / per_sequence * width + inside % width];
  if (table != nullptr) value += table[inside];
  y[index] = from_float<T>(value);
}

template <class T>
void launch_spread(Queue& queue, const Shape& shape, Index width, const float* z, const float* table, Index first,
                   T* y) {
  const Index elements = shape.tokens() * width;
  queue.launch("spreading an encoding", spread<T>, dim3(static_cast<unsigned>((elements + threads - 1) / threads)),
               dim3(threads), 0, z, table, y, shape.length, first, width, elements);
}

}  // namespace pooling_detail

/// x (batch, length, width) of shape `encoder` to y (batch, positions, width) of shape `decoder`.
template <class T>
void pool_forward(Queue& queue, const Shape& encoder, const Shape& decoder, Pooling pooling, Index width, const T* x,
                  const float* table, T* y) {
  namespace d = pooling_detail;
  const bool mean = pooling == Pooling::average;
  float* z = queue.take<float>(encoder.batch * width);
  queue.launch("pooling", d::sum_rows<T>, dim3(static_cast<unsigned>(encoder.batch)), dim3(d::threads), 0, x, z,
               encoder.length, mean ? Index{0} : encoder.length - 1, width,
               mean ? 1.0f / static_cast<float>(encoder.length) : 1.0f);
  d::launch_spread(queue, decoder, width, z, table, 0, y);
}

/// The gradient: dy as y to dx as x.
template <class T>
void pool_backward(Queue& queue, const Shape& encoder, const Shape& decoder, Pooling pooling, Index width, const T* dy,
                   T* dx) {
  namespace d = pooling_detail;
  const bool mean = pooling == Pooling::average;
  float* dz = queue.take<float>(encoder.batch * width);
  queue.launch("the gradient of pooling", d::sum_rows<T>, dim3(static_cast<unsigned>(encoder.batch)), dim3(d::threads),
               0, dy, dz, decoder.length, Index{0}, width, mean ? 1.0f / static_cast<float>(encoder.length) : 1.0f);
  d::launch_spread<T>(queue, encoder, width, dz, nullptr, mean ? 0 : encoder.length - 1, dx);
}

}  // namespace mad::cuda
