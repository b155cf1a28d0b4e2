// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel. A thread has some neighbouring columns of the input and all
/// channels that read them, and walks along a strip of one sequence; what the taps reach back to stays in registers.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/gates.cuh>
#include <mad/cuda/kernels/short_conv_layout.cuh>
#include <mad/cuda/products/row_sum.cuh>
#include <mad/ops/short_conv.hpp>

namespace mad::cuda {

namespace short_conv_detail {

/// y[t,c] = b[c] + sum_j w[c,j] x[t-(K-1)+j, c mod Width].
template <class C, class T, class U>
__global__ void __launch_bounds__(threads) forward(const T* x, std::size_t x_stride, const float* weight,
                                                   const float* bias, U* y, std::size_t y_stride, const Strips strips) {
  constexpr int n = C::columns;
  constexpr int taps = C::taps;
  constexpr int step = C::groups == 1 ? 16 : 4;  // tokens that are loaded at once
  const unsigned index = blockIdx.x * threads + threadIdx.x;
  const unsigned strip = index / C::chunks;
  if (strip >= strips.count) return;
  const int column = static_cast<int>(index % C::chunks) * n;
  const int first = static_cast<int>(strip % strips.per_sequence) * strips.tokens;
  const int count = min(strips.tokens, strips.length - first);
  const std::size_t row = static_cast<std::size_t>(strip / strips.per_sequence) * strips.length + first;
  x += row * x_stride + column;
  y += row * y_stride + column;
#pragma unroll 1
  for (int round = 0; round < C::rounds; ++round) {
    float w[C::groups][n][taps]{};
    float shift[C::groups][n]{};
#pragma unroll
    for (int g = 0; g < C::groups; ++g) {
      const int channel = (round * C::groups + g) * C::width + column;
      if (channel >= C::channels) break;
      load_taps<C>(weight + channel * taps, w[g]);
      if (bias == nullptr) continue;
#pragma unroll
      for (int c = 0; c < n; ++c) shift[g][c] = bias[channel + c];
    }
    float window[taps][n];  // x[t-(K-1)] and the following
    const T* from = x - (taps - 1) * static_cast<std::ptrdiff_t>(x_stride);
#pragma unroll
    for (int j = 0; j + 1 < taps; ++j, from += x_stride) widen<T>(read<T, n>(from, first + j >= taps - 1), window[j]);
    U* to = y + round * C::groups * C::width;
    for (int begin = 0; begin < count; begin += step) {
      Stored<T, n> next[step];
#pragma unroll
      for (int i = 0; i < step; ++i, from += x_stride) next[i] = read<T, n>(from, begin + i < count);
#pragma unroll
      for (int i = 0; i < step; ++i, to += y_stride) {
        widen<T>(next[i], window[taps - 1]);
#pragma unroll
        for (int g = 0; g < C::groups; ++g) {
          float sum[n];
          convolve<C>(w[g], shift[g], window, sum);
          if constexpr (C::silu)
#pragma unroll
            for (int c = 0; c < n; ++c) sum[c] *= Gates<U>::sigmoid(sum[c]);
          const bool is_group = C::rounds == 1 || round * C::groups + g < C::all_groups;
          if (begin + i < count && is_group) store(to + g * C::width, sum);
        }
#pragma unroll
        for (int j = 0; j + 1 < taps; ++j)
#pragma unroll
          for (int c = 0; c < n; ++c) window[j][c] = window[j + 1][c];
      }
    }
  }
}

/// dx[s,i] = sum over c = i mod Width, j of w[c,j] dy[s+(K-1)-j, c]; and the sums over the block's strips
/// dw[c,j] = sum_s x[s,i] dy[s+(K-1)-j, c], db[c] = sum_s dy[s,c], written to partial (blocks, Channels (K + 1)). With
/// silu dy counts times its slope at the sums, which are computed again. Grid: (strips, columns).
template <class C, class T, class U>
__global__ void __launch_bounds__(threads)
    backward(const T* dy, std::size_t dy_stride, const U* x, std::size_t x_stride, const float* weight,
             const float* bias, U* dx, std::size_t dx_stride, float* partial, const Strips strips) {
  constexpr int n = C::columns;
  constexpr int taps = C::taps;
  constexpr int step = C::groups == 1 && !C::silu ? 8 : 4;
  constexpr int ahead = C::silu ? taps - 1 : 0;  // tokens that the inputs are ahead of dx
  __shared__ float sums[C::groups * n][threads];
  const int lane = static_cast<int>(threadIdx.x) % C::lanes;
  const unsigned strip = blockIdx.x * C::strips + threadIdx.x / C::lanes;
  const int first_column = static_cast<int>(blockIdx.y) * C::lanes * n;
  const int column = first_column + lane * n;
  const bool here = threadIdx.x < C::lanes * C::strips && column < C::width && strip < strips.count;
  const int first = static_cast<int>(strip % strips.per_sequence) * strips.tokens;
  const int rest = here ? strips.length - first : 0;  // tokens to the end of the sequence
  const int count = min(strips.tokens, rest);
  const std::size_t row = static_cast<std::size_t>(strip / strips.per_sequence) * strips.length + first;
  x += row * x_stride + column;
  dx += row * dx_stride + column;
  dy += row * dy_stride + column;
  partial += static_cast<std::size_t>(blockIdx.x) * C::channels * (taps + 1);
#pragma unroll 1
  for (int round = 0; round < C::rounds; ++round) {
    float w[C::groups][n][taps]{};
    float d_weight[C::groups][n][taps]{};
    float d_bias[C::groups][n]{};
    float shift[C::groups][n]{};
    float window[C::groups][taps][n];  // dy[s] and the following
    float inputs[taps][n];             // x[s + ahead - (K-1)] and the following
    int rows[C::groups];               // of dy that there are
    const T* from = dy + round * C::groups * C::width;
    const U* input_from = x - (taps - 1) * static_cast<std::ptrdiff_t>(x_stride);
    const auto next_input = [&](int t) {  // that of token t of the strip, from -(K-1) on
#pragma unroll
      for (int j = 0; j + 1 < taps; ++j)
#pragma unroll
        for (int c = 0; c < n; ++c) inputs[j][c] = inputs[j + 1][c];
      widen<U>(read<U, n>(input_from, rest > 0 && first + t >= 0 && t < rest), inputs[taps - 1]);
      input_from += x_stride;
    };
    const auto multiply_by_slope = [&](int g, float(&d)[n]) {
      float sum[n];
      convolve<C>(w[g], shift[g], inputs, sum);
#pragma unroll
      for (int c = 0; c < n; ++c) {
        const float s = Gates<T>::sigmoid(sum[c]);
        d[c] *= s * (1 + sum[c] * (1 - s));
      }
    };
#pragma unroll
    for (int g = 0; g < C::groups; ++g) {
      const int channel = (round * C::groups + g) * C::width + column;
      rows[g] = C::rounds == 1 || channel < C::channels ? rest : 0;
      if (rows[g] > 0) load_taps<C>(weight + channel * taps, w[g]);
      if (C::silu && rows[g] > 0 && bias != nullptr)
#pragma unroll
        for (int c = 0; c < n; ++c) shift[g][c] = bias[channel + c];
#pragma unroll
      for (int j = 0; j + 1 < taps; ++j)
        widen<T>(read<T, n>(from + j * dy_stride + g * C::width, j < rows[g]), window[g][j]);
    }
    if constexpr (C::silu) {
#pragma unroll
      for (int t = -(taps - 1); t < 0; ++t) next_input(t);
#pragma unroll
      for (int t = 0; t < ahead; ++t) {
        next_input(t);
#pragma unroll
        for (int g = 0; g < C::groups; ++g) multiply_by_slope(g, window[g][t]);
      }
    } else {
      input_from = x;
    }
    from += (taps - 1) * dy_stride;
    U* to = dx;
    for (int begin = 0; begin < count; begin += step) {
      Stored<T, n> next[step][C::groups];
      Stored<U, n> input[step];
#pragma unroll
      for (int i = 0; i < step; ++i, from += dy_stride, input_from += x_stride) {
        input[i] = read<U, n>(input_from, begin + i + ahead < (C::silu ? rest : count));
#pragma unroll
        for (int g = 0; g < C::groups; ++g)
          next[i][g] = read<T, n>(from + g * C::width, begin + i + taps - 1 < rows[g]);
      }
#pragma unroll
      for (int i = 0; i < step; ++i, to += dx_stride) {
        float sum[n]{};
#pragma unroll
        for (int j = 0; j + 1 < taps; ++j)
#pragma unroll
          for (int c = 0; c < n; ++c) inputs[j][c] = inputs[j + 1][c];
        widen<U>(input[i], inputs[taps - 1]);
        const float(&in)[n] = inputs[taps - 1 - ahead];
        if (round > 0 && begin + i < count) load(to, sum);
#pragma unroll
        for (int g = 0; g < C::groups; ++g) {
          widen<T>(next[i][g], window[g][taps - 1]);
          if constexpr (C::silu) multiply_by_slope(g, window[g][taps - 1]);
#pragma unroll
          for (int c = 0; c < n; ++c) {
            d_bias[g][c] += window[g][0][c];  // 0 behind the end of the sequence
#pragma unroll
            for (int j = 0; j < taps; ++j) {
              sum[c] += w[g][c][j] * window[g][taps - 1 - j][c];
              d_weight[g][c][j] += in[c] * window[g][taps - 1 - j][c];
            }
#pragma unroll
            for (int j = 0; j + 1 < taps; ++j) window[g][j][c] = window[g][j + 1][c];
          }
        }
        if (begin + i < count) store(to, sum);
      }
    }
    // The sums over the strips, one tap after the other.
#pragma unroll
    for (int j = 0; j <= taps; ++j) {
      add_strips<C::groups, n, C::lanes, C::strips>(
          sums, [&](int g, int c) { return j < taps ? d_weight[g][c][j % taps] : d_bias[g][c]; },
          [&](int g, int inside, float sum) {
            const int channel = (round * C::groups + g) * C::width + first_column + inside;
            if (first_column + inside >= C::width || channel >= C::channels) return;
            partial[j < taps ? channel * taps + j : C::channels * taps + channel] = sum;
          });
    }
  }
}

}  // namespace short_conv_detail

template <>
struct Kernel<&ops::short_conv_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = short_conv_detail;
    constexpr int taps = C::node.attribute[ops::short_conv::kernel];
    constexpr int channels = C::node.width;
    constexpr int width = C::operand(0).width;
    constexpr int chunk = common_chunk<width, C::template in_chunk<0>(), C::template out_chunk<0>()>();
    // Where channels have columns of their own, threads are many rather than long: they have all their tokens at once.
    constexpr int columns = d::columns_of(channels / width, taps, chunk, channels == width ? 16 : 32);
    using Cut = d::Cut<taps, channels, width, columns, common_chunk<columns * taps, C::template in_chunk<1>()>(),
                       C::node.attribute[ops::short_conv::silu] != 0>;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const float* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    const d::Strips strips(call.shape(), Cut::chunks, 1024 * call.queue().multiprocessors(), 64);
    const Index count = Index{strips.count} * Cut::chunks;
    call.queue().launch("a short convolution", d::forward<Cut, T, U>,
                        dim3(static_cast<unsigned>((count + d::threads - 1) / d::threads)), dim3(d::threads), 0, x.data,
                        x.stride, call.template in<1>().data, bias, y.data, y.stride, strips);
  }
};

template <>
struct Kernel<&ops::short_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = short_conv_detail;
    constexpr int taps = C::node.attribute[ops::short_conv::kernel];
    constexpr int channels = C::operand(0).width;
    constexpr int width = C::node.width;
    constexpr int chunk =
        common_chunk<width, C::template in_chunk<0>(), C::template in_chunk<1>(), C::template out_chunk<0>()>();
    constexpr int columns = d::columns_of(channels / width, taps, chunk, 24);
    using Cut = d::Cut<taps, channels, width, columns, common_chunk<columns * taps, C::template in_chunk<2>()>(),
                       C::node.attribute[ops::short_conv::silu] != 0>;
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    static_assert(std::is_same_v<U, typename C::template Out<0>>);
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    Queue& queue = call.queue();
    const d::Strips strips(call.shape(), Cut::chunks, 512 * queue.multiprocessors(), 128);
    const dim3 grid((strips.count + Cut::strips - 1) / Cut::strips, Cut::blocks);
    constexpr Index sums = channels * (taps + 1);
    float* partial = queue.template take_for_aside<float>(Index{grid.x} * sums);
    const float* bias = nullptr;
    if constexpr (C::has(3)) bias = call.template in<3>().data;
    queue.launch("the gradient of a short convolution", d::backward<Cut, T, U>, grid, dim3(d::threads), 0, dy.data,
                 dy.stride, x.data, x.stride, call.template in<2>().data, bias, dx.data, dx.stride, partial, strips);
    float* d_bias = nullptr;
    if constexpr (C::template is_result<2>()) d_bias = call.template out<2>().data;
    add_row_sums<float>(sums_aside(call, 1), {partial, sums}, grid.x, channels * taps, call.template out<1>().data,
                        channels, d_bias);
  }
};

}  // namespace mad::cuda
