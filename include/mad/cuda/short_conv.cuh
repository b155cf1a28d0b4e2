// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel.
#pragma once

#include <mad/cuda/context.hpp>
#include <mad/cuda/row_sum.cuh>
#include <mad/ops/short_conv.hpp>

namespace mad::cuda {

namespace short_conv_detail {

/// Tokens of one sequence that a thread walks along.
inline constexpr int strip = 16;

/// y[t,c] = b[c] + sum_j w[c,j] x[t-(K-1)+j, c mod Width]. Thread: one channel, one strip.
template <int Kernel, int Channels, int Width, class T, class U>
__global__ void __launch_bounds__(128) forward(const T* x, std::size_t x_stride, const float* weight, const float* bias,
                                               U* y, std::size_t y_stride, int length) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (channel >= Channels) return;
  const int first = static_cast<int>(blockIdx.y) * strip;
  const std::size_t row = std::size_t{blockIdx.z} * length + first;
  x += row * x_stride + channel % Width;
  y += row * y_stride + channel;
  float w[Kernel];
  float window[Kernel];
#pragma unroll
  for (int j = 0; j < Kernel; ++j) {
    w[j] = weight[channel * Kernel + j];
    const int back = j - Kernel;  // before the first token
    window[j] = first + back >= 0
                    ? to_float(x[static_cast<std::ptrdiff_t>(back) * static_cast<std::ptrdiff_t>(x_stride)])
                    : 0.0f;
  }
  const float shift = bias != nullptr ? bias[channel] : 0.0f;
  const int count = min(strip, length - first);
#pragma unroll
  for (int t = 0; t < strip; ++t) {
    if (t >= count) break;
#pragma unroll
    for (int j = 1; j < Kernel; ++j) window[j - 1] = window[j];
    window[Kernel - 1] = to_float(x[t * x_stride]);
    float sum = shift;
#pragma unroll
    for (int j = 0; j < Kernel; ++j) sum += w[j] * window[j];
    y[t * y_stride] = from_float<U>(sum);
  }
}

/// dx[s,i] = sum over c = i mod Width, j of w[c,j] dy[s+(K-1)-j, c]; and per strip the sums
/// dw[c,j] = sum_t dy[t,c] x[t-(K-1)+j, i], db[c] = sum_t dy[t,c], written to partial (strips, Channels (K + 1)).
/// Thread: one column of x, one strip.
template <int Kernel, int Channels, int Width, class T, class U>
__global__ void __launch_bounds__(128)
    backward(const T* dy, std::size_t dy_stride, const U* x, std::size_t x_stride, const float* weight, U* dx,
             std::size_t dx_stride, float* partial, int length) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= Width) return;
  const int first = static_cast<int>(blockIdx.y) * strip;
  const std::size_t row = std::size_t{blockIdx.z} * length + first;
  const int count = min(strip, length - first);
  x += row * x_stride + column;
  dx += row * dx_stride + column;
  partial += (std::size_t{blockIdx.z} * gridDim.y + blockIdx.y) * Channels * (Kernel + 1);
  float input[strip + Kernel - 1];  // x from K - 1 tokens before the strip on
#pragma unroll
  for (int t = 0; t < strip + Kernel - 1; ++t) {
    const int at = t - (Kernel - 1);
    input[t] = first + at >= 0 && at < count
                   ? to_float(x[static_cast<std::ptrdiff_t>(at) * static_cast<std::ptrdiff_t>(x_stride)])
                   : 0.0f;
  }
  float sum[strip]{};
#pragma unroll 1
  for (int channel = column; channel < Channels; channel += Width) {
    const T* from = dy + row * dy_stride + channel;
    float w[Kernel];
    float d_weight[Kernel]{};
    float d_bias = 0;
#pragma unroll
    for (int j = 0; j < Kernel; ++j) w[j] = weight[channel * Kernel + j];
#pragma unroll
    for (int t = 0; t < strip + Kernel - 1; ++t) {  // dy up to K - 1 tokens behind the strip
      const float gradient = first + t < length ? to_float(from[t * dy_stride]) : 0.0f;
#pragma unroll
      for (int j = 0; j < Kernel; ++j) {
        const int s = t - (Kernel - 1) + j;
        if (s >= 0 && s < strip) sum[s] += w[j] * gradient;
        if (t < strip && t < count) d_weight[j] += gradient * input[t + j];
      }
      if (t < strip && t < count) d_bias += gradient;
    }
#pragma unroll
    for (int j = 0; j < Kernel; ++j) partial[channel * Kernel + j] = d_weight[j];
    partial[Channels * Kernel + channel] = d_bias;
  }
#pragma unroll
  for (int t = 0; t < strip; ++t)
    if (t < count) dx[t * dx_stride] = from_float<U>(sum[t]);
}

inline dim3 grid(const Shape& shape, int width) {
  return dim3(static_cast<unsigned>((width + 127) / 128), static_cast<unsigned>((shape.length + strip - 1) / strip),
              static_cast<unsigned>(shape.batch));
}

}  // namespace short_conv_detail

template <>
struct Kernel<&ops::short_conv_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int kernel = C::node.attribute[ops::short_conv::kernel];
    constexpr int channels = C::node.width;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const float* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    call.queue().launch("a short convolution", short_conv_detail::forward<kernel, channels, C::operand(0).width, T, U>,
                        short_conv_detail::grid(call.shape(), channels), dim3(128), 0, x.data, x.stride,
                        call.template in<1>().data, bias, y.data, y.stride, call.shape().length);
  }
};

template <>
struct Kernel<&ops::short_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int kernel = C::node.attribute[ops::short_conv::kernel];
    constexpr int channels = C::operand(0).width;
    constexpr int width = C::node.width;
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    static_assert(std::is_same_v<U, typename C::template Out<0>>);
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    const dim3 grid = short_conv_detail::grid(call.shape(), width);
    const Index strips = Index{grid.y} * grid.z;
    constexpr Index sums = channels * (kernel + 1);
    float* partial = call.queue().template take<float>(strips * sums);
    call.queue().launch("the gradient of a short convolution",
                        short_conv_detail::backward<kernel, channels, width, T, U>, grid, dim3(128), 0, dy.data,
                        dy.stride, x.data, x.stride, call.template in<2>().data, dx.data, dx.stride, partial,
                        call.shape().length);
    add_row_sums<float>(call.queue(), {partial, sums}, strips, channels * kernel, call.template out<1>().data);
    if constexpr (C::template is_result<2>())
      add_row_sums<float>(call.queue(), {partial + channels * kernel, sums}, strips, channels,
                          call.template out<2>().data);
  }
};

}  // namespace mad::cuda
