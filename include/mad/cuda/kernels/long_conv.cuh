// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution with a filter as long as the sequence, as the plain sum: for bfloat16 values on the tensor cores
/// (long_conv/tensor.cuh, long_conv/streamed.cuh, long_conv/correlation.cuh), else here, where one thread computes
/// `tile` neighbouring results of one channel from `tile` inputs and 2 tile - 1 taps at a time, all in registers.
#pragma once

#include <mad/cuda/kernels/long_conv/correlation.cuh>
#include <mad/cuda/kernels/long_conv/streamed.cuh>
#include <mad/cuda/kernels/long_conv/tensor.cuh>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/long_conv.hpp>

#include <algorithm>
#include <string_view>
#include <type_traits>

namespace mad::cuda {

namespace long_conv_detail {

inline constexpr int tile = 16;
inline constexpr int threads = 128;

/// y[t] = sum_{s<=t} h[t-s] u[s] + skip u[t], or with Backwards y[s] = sum_{t>=s} h[t-s] u[t] + skip u[s]. Channel c
/// uses column c mod Filters. Thread: one channel, `tile` positions. Grid: (channels, tiles, batch).
template <int Channels, int Filters, bool Backwards, class T, class U>
__global__ void __launch_bounds__(threads)
    convolve_directly(const T* u, std::size_t u_stride, const float* h, std::size_t h_stride, const float* skip, U* y,
                      std::size_t y_stride, int length) {
  const int channel = static_cast<int>(blockIdx.x * threads + threadIdx.x);
  if (channel >= Channels) return;
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * tile;  // the longest sums begin first
  const std::size_t sequence = std::size_t{blockIdx.z} * length;
  // Backwards, position p of the sums is token length - 1 - p.
  const auto token = [&](int p) { return sequence + static_cast<std::size_t>(Backwards ? length - 1 - p : p); };
  u += channel;
  y += channel;
  h += channel % Filters;
  const auto tap = [&](int lag) {
    return lag >= 0 && lag < length ? h[static_cast<std::size_t>(lag) * h_stride] : 0.0f;
  };
  float window[2 * tile - 1];  // h[first - s - (tile - 1)] and the following
  float input[tile];
  float sum[tile]{};
#pragma unroll
  for (int k = tile; k < 2 * tile - 1; ++k) window[k - tile] = tap(first + k - (tile - 1));
  for (int s = 0; s <= first; s += tile) {
#pragma unroll
    for (int k = tile - 2; k >= 0; --k) window[k + tile] = window[k];
#pragma unroll
    for (int k = 0; k < tile; ++k) window[k] = tap(first - s + k - (tile - 1));
#pragma unroll
    for (int j = 0; j < tile; ++j) input[j] = s + j < length ? to_float(u[token(s + j) * u_stride]) : 0.0f;
#pragma unroll
    for (int j = 0; j < tile; ++j)
#pragma unroll
      for (int i = 0; i < tile; ++i) sum[i] += window[i - j + tile - 1] * input[j];
  }
  const float direct = skip[channel % Filters];
#pragma unroll
  for (int i = 0; i < tile; ++i)  // the inputs are those of the last round, at the same positions
    if (first + i < length) y[token(first + i) * y_stride] = from_float<U>(sum[i] + direct * input[i]);
}

/// partial[p, lag, c] = sum over the p-th share of the sequences and over t of dy[t, c] u[t - lag, c]. Thread: one
/// channel, `tile` lags. Grid: (channels, tiles, shares).
template <int Channels, class T, class U>
__global__ void __launch_bounds__(threads)
    correlate_directly(const T* dy, std::size_t dy_stride, const U* u, std::size_t u_stride, float* partial, int batch,
                       int length) {
  const int channel = static_cast<int>(blockIdx.x * threads + threadIdx.x);
  if (channel >= Channels) return;
  const int first = static_cast<int>(blockIdx.y) * tile;
  dy += channel;
  u += channel;
  float sum[tile]{};
  for (int b = static_cast<int>(blockIdx.z); b < batch; b += static_cast<int>(gridDim.z)) {
    const std::size_t sequence = static_cast<std::size_t>(b) * length;
    const auto input = [&](int t) {
      return t >= 0 && t < length ? to_float(u[(sequence + static_cast<std::size_t>(t)) * u_stride]) : 0.0f;
    };
    float window[2 * tile - 1];  // u[t - first - (tile - 1)] and the following
    float gradient[tile];
#pragma unroll
    for (int k = 0; k < tile - 1; ++k) window[k + tile] = input(k - (tile - 1));
    for (int t = first; t < length; t += tile) {
#pragma unroll
      for (int k = 0; k < tile - 1; ++k) window[k] = window[k + tile];
#pragma unroll
      for (int k = tile - 1; k < 2 * tile - 1; ++k) window[k] = input(t - first + k - (tile - 1));
#pragma unroll
      for (int i = 0; i < tile; ++i)
        gradient[i] = t + i < length ? to_float(dy[(sequence + static_cast<std::size_t>(t + i)) * dy_stride]) : 0.0f;
#pragma unroll
      for (int i = 0; i < tile; ++i)
#pragma unroll
        for (int j = 0; j < tile; ++j) sum[j] += gradient[i] * window[i - j + tile - 1];
    }
  }
  partial += static_cast<std::size_t>(blockIdx.z) * length * Channels + channel;
#pragma unroll
  for (int j = 0; j < tile; ++j)
    if (first + j < length) partial[static_cast<std::size_t>(first + j) * Channels] = sum[j];
}

/// dh[lag, f] += the shares of all channels that use filter f; d_skip[f] += the same at lag 0.
template <int Channels, int Filters>
__global__ void __launch_bounds__(256)
    finish(const float* partial, int shares, float* dh, std::size_t dh_stride, float* d_skip, int length) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= static_cast<unsigned>(length) * Filters) return;
  const std::size_t lag = index / Filters;
  const unsigned filter = index % Filters;
  float sum = 0;
  for (int p = 0; p < shares; ++p)
#pragma unroll
    for (int c = 0; c < Channels; c += Filters)
      sum += partial[(static_cast<std::size_t>(p) * length + lag) * Channels + c + filter];
  dh[lag * dh_stride + filter] += sum;
  if (lag == 0) d_skip[filter] += sum;
}

template <class T, class U>
constexpr bool on_tensor_cores(int channels, bool whole_rows) {
  return std::is_same_v<T, BFloat16> && std::is_same_v<U, BFloat16> && whole_rows &&
         channels % long_conv_tensor::channels == 0;
}

inline dim3 grid(int channels, Index length, Index depth) {
  return dim3(static_cast<unsigned>((channels + threads - 1) / threads),
              static_cast<unsigned>((length + tile - 1) / tile), static_cast<unsigned>(depth));
}

/// y = h * u + skip u, or with Backwards the gradient in u. WholeRows: rows begin at multiples of 16 bytes.
template <int Channels, int Filters, bool Backwards, bool WholeRows, class T, class U>
void convolve(Queue& queue, View<const T> u, View<const float> h, const float* skip, View<U> y, const Shape& shape) {
  if constexpr (on_tensor_cores<T, U>(Channels, WholeRows)) {
    if constexpr (Channels % 16 == 0)
      if (long_conv_tensor::streams(shape.length))
        return long_conv_tensor::launch_streamed<Channels, Filters, Backwards>(queue, u, h, skip, y, shape);
    if (long_conv_tensor::fits(shape.length))
      return long_conv_tensor::launch_convolve<Channels, Filters, Backwards>(queue, u, h, skip, y, shape);
  }
  queue.launch("a long convolution", convolve_directly<Channels, Filters, Backwards, T, U>,
               grid(Channels, shape.length, shape.batch), dim3(threads), 0, u.data, u.stride, h.data, h.stride, skip,
               y.data, y.stride, shape.length);
}

/// dh and d_skip, which are added to.
template <int Channels, int Filters, bool WholeRows, class T, class U>
void correlate(Queue& queue, View<const T> dy, View<const U> u, View<float> dh, float* d_skip, const Shape& shape) {
  constexpr std::string_view what = "the filter's gradient of a long convolution";
  const auto add_up = [&](const float* partial, Index shares) {
    queue.launch(what, finish<Channels, Filters>, sum_detail::blocks(shape.length * Filters, 256), dim3(256), 0,
                 partial, static_cast<int>(shares), dh.data, dh.stride, d_skip, shape.length);
  };
  if constexpr (on_tensor_cores<T, U>(Channels, WholeRows)) {
    if (long_conv_tensor::correlation_fits()) {
      const long_conv_tensor::CorrelationGrid spread(queue, Channels, shape);
      float* partial = queue.take<float>(spread.shares * shape.length * Channels);
      long_conv_tensor::launch_correlate<Channels>(queue, dy, u, partial, spread, shape);
      return add_up(partial, spread.shares);
    }
  }
  const dim3 one = grid(Channels, shape.length, 1);
  const Index shares = std::clamp<Index>(8 * queue.multiprocessors() / (Index{one.x} * one.y), 1, shape.batch);
  float* partial = queue.take<float>(shares * shape.length * Channels);
  queue.launch(what, correlate_directly<Channels, T, U>, grid(Channels, shape.length, shares), dim3(threads), 0,
               dy.data, dy.stride, u.data, u.stride, partial, shape.batch, shape.length);
  add_up(partial, shares);
}

}  // namespace long_conv_detail

template <>
struct Kernel<&ops::long_conv_prepare_op> {
  /// The sum reads the filter as it is.
  template <class C>
  static Index bytes(const Shape&) {
    return 0;
  }
  template <class C>
  static void run(const C&) {}
};

template <>
struct Kernel<&ops::long_conv_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = long_conv_detail;
    constexpr bool whole_rows = C::template in_chunk<0>() >= 8 && C::template out_chunk<0>() >= 8;
    d::convolve<C::node.width, C::operand(2).width, false, whole_rows>(
        call.queue(), call.template in<0>(), call.template in<2>(), call.template in<3>().data, call.out(),
        call.shape());
  }
};

template <>
struct Kernel<&ops::long_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = long_conv_detail;
    constexpr int channels = C::node.width;
    constexpr int filters = C::operand(3).width;
    constexpr bool whole_rows = C::template in_chunk<0>() >= 8 && C::template out_chunk<0>() >= 8;
    const Shape& shape = call.shape();
    const auto dy = call.template in<0>();
    const auto u = call.template in<1>();
    Queue& aside = queue_aside(call.context, call.read(), call.written().subspan(1));
    d::correlate<channels, filters, C::template in_chunk<0>() >= 8 && C::template in_chunk<1>() >= 8>(
        aside, dy, u, call.template out<1>(), call.template out<2>().data, shape);
    d::convolve<channels, filters, true, whole_rows>(call.queue(), dy, call.template in<3>(),
                                                     call.template in<4>().data, call.template out<0>(), shape);
  }
};

}  // namespace mad::cuda
