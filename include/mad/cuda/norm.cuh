// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// LayerNorm, RMSNorm and GroupNorm of single rows.
#pragma once

#include <mad/cuda/context.hpp>
#include <mad/cuda/row_sum.cuh>
#include <mad/ops/norm.hpp>

namespace mad::cuda {

/// A group of `Size` neighbouring channels is spread over `lanes` lanes of a warp: lane i holds chunks i, i + lanes,
/// ... of `chunk` channels, at most `Largest` (a power of two).
template <int Size, int Largest>
struct NormGroup {
  static constexpr int chunk = Size % 4 == 0 && Largest >= 4 ? 4 : Size % 2 == 0 && Largest >= 2 ? 2 : 1;
  static constexpr int chunks = Size / chunk;
  static constexpr int lanes = chunks >= 32   ? 32
                               : chunks >= 16 ? 16
                               : chunks >= 8  ? 8
                               : chunks >= 4  ? 4
                               : chunks >= 2  ? 2
                                              : 1;
  static constexpr int rounds = (chunks + lanes - 1) / lanes;
  static constexpr int per_lane = rounds * chunk;
  static constexpr int block = 256;
  static constexpr int groups_per_block = block / lanes;

  /// f(index in the lane, channel in the group) for every chunk of the lane.
  template <class F>
  static __device__ void for_chunks(const F& f) {
    const int lane = static_cast<int>(threadIdx.x) % lanes;
#pragma unroll
    for (int r = 0; r < rounds; ++r) {
      const int c = r * lanes + lane;
      if (rounds * lanes == chunks || c < chunks) f(r * chunk, c * chunk);
    }
  }

  /// The lane's channels of a group, 0 where the group has no more.
  template <class T>
  static __device__ void load_group(const T* from, float (&x)[per_lane]) {
#pragma unroll
    for (int i = 0; i < per_lane; ++i) x[i] = 0;
    for_chunks([&](int i, int c) { load(from + c, reinterpret_cast<float(&)[chunk]>(x[i])); });
  }
  template <class T>
  static __device__ void store_group(T* to, const float (&x)[per_lane]) {
    for_chunks([&](int i, int c) { store(to + c, reinterpret_cast<const float(&)[chunk]>(x[i])); });
  }
  /// Channels whose address need not be a multiple of a chunk's bytes.
  static __device__ void load_parameter(const float* from, float (&x)[per_lane]) {
#pragma unroll
    for (int i = 0; i < per_lane; ++i) x[i] = 0;
    for_chunks([&](int i, int c) {
#pragma unroll
      for (int k = 0; k < chunk; ++k) x[i + k] = from[c + k];
    });
  }

  static __device__ float sum(const float (&x)[per_lane]) {
    float s = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) s += x[i];
    return lane_sum<lanes>(s);
  }

  /// x to (x - mean) / sqrt(var + eps), without the mean where not centred. Returns the divisor's inverse.
  template <bool Centred>
  static __device__ float standardise(float (&x)[per_lane], float eps) {
    if constexpr (Centred) {
      const float mean = sum(x) / Size;
#pragma unroll
      for (int i = 0; i < per_lane; ++i) x[i] -= mean;
      // Channels that are not there must stay 0.
      if constexpr (rounds * lanes != chunks) {
        if ((rounds - 1) * lanes + static_cast<int>(threadIdx.x) % lanes >= chunks) {
#pragma unroll
          for (int i = per_lane - chunk; i < per_lane; ++i) x[i] = 0;
        }
      }
    }
    float square = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) square += x[i] * x[i];
    const float inverse = rsqrtf(lane_sum<lanes>(square) / Size + eps);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) x[i] *= inverse;
    return inverse;
  }
};

namespace norm_detail {

/// `WeightWidth` is the row's width, or Size where all groups share one weight.
template <class G, int Size, int Groups, int WeightWidth, bool Centred, class T, class U>
__global__ void __launch_bounds__(256)
    norm_forward(const T* x, std::size_t x_stride, const float* weight, const float* bias, U* y, std::size_t y_stride,
                 unsigned items, float eps) {
  const unsigned item = blockIdx.x * G::groups_per_block + threadIdx.x / G::lanes;
  const bool here = item < items;  // all lanes take part in the sums
  const unsigned row = here ? item / Groups : 0;
  const unsigned channel = here ? item % Groups * Size : 0;
  float value[G::per_lane];
  G::load_group(x + row * x_stride + channel, value);
  G::template standardise<Centred>(value, eps);
  const unsigned weight_channel = WeightWidth == Size ? 0 : channel;
  float factor[G::per_lane];
  G::load_parameter(weight + weight_channel, factor);
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) value[i] *= factor[i];
  if (bias != nullptr) {
    G::load_parameter(bias + weight_channel, factor);
#pragma unroll
    for (int i = 0; i < G::per_lane; ++i) value[i] += factor[i];
  }
  if (here) G::store_group(y + row * y_stride + channel, value);
}

/// Every team of lanes takes one group of channels of many rows, so that sums over rows stay in registers. `partial`
/// holds 2 WeightWidth sums per block, added up by the last block.
template <class G, int Size, int Groups, int WeightWidth, bool Centred, class T, class U>
__global__ void __launch_bounds__(256)
    norm_backward(const T* dy, std::size_t dy_stride, const U* x, std::size_t x_stride, const float* weight, U* dx,
                  std::size_t dx_stride, unsigned rows, float eps, float* partial, int* counter, float* d_weight,
                  float* d_bias) {
  const unsigned team = blockIdx.x * G::groups_per_block + threadIdx.x / G::lanes;
  const unsigned teams = gridDim.x * G::groups_per_block / Groups * Groups;  // whole rows
  const unsigned group = team % Groups;
  const unsigned channel = group * Size;
  const unsigned weight_channel = WeightWidth == Size ? 0 : channel;
  float factor[G::per_lane];
  G::load_parameter(weight + weight_channel, factor);
  float d_factor[G::per_lane]{};
  float d_shift[G::per_lane]{};
  // All teams make the same number of rounds: the lanes of a warp sum together.
  const unsigned rows_at_once = teams / Groups;
#pragma unroll 2
  for (unsigned first = 0; first < rows; first += rows_at_once) {
    const unsigned row = first + team / Groups;
    const bool here = team < teams && row < rows;
    float value[G::per_lane];
    float gradient[G::per_lane];
    G::load_group(x + (here ? row : 0) * x_stride + channel, value);
    G::load_group(dy + (here ? row : 0) * dy_stride + channel, gradient);
    const float inverse = G::template standardise<Centred>(value, eps);
    float projection = 0;
    float mean = 0;
#pragma unroll
    for (int i = 0; i < G::per_lane; ++i) {
      if (here) {
        d_factor[i] += gradient[i] * value[i];
        d_shift[i] += gradient[i];
      }
      gradient[i] *= factor[i];
      projection += gradient[i] * value[i];
      mean += gradient[i];
    }
    projection = lane_sum<G::lanes>(projection) / Size;
    mean = Centred ? lane_sum<G::lanes>(mean) / Size : 0.0f;
#pragma unroll
    for (int i = 0; i < G::per_lane; ++i) value[i] = (gradient[i] - mean - value[i] * projection) * inverse;
    if (here) G::store_group(dx + row * dx_stride + channel, value);
  }
  extern __shared__ float sums[];  // (teams of the block, 2, Size)
  float* own = sums + threadIdx.x / G::lanes * 2 * Size;
  G::store_group(own, d_factor);
  G::store_group(own + Size, d_shift);
  __syncthreads();
  const unsigned first_team = blockIdx.x * G::groups_per_block;
  for (int c = static_cast<int>(threadIdx.x); c < 2 * WeightWidth; c += G::block) {
    const int half = c / WeightWidth;
    const int column = c % WeightWidth;
    float sum = 0;
    for (int t = 0; t < G::groups_per_block; ++t) {
      const unsigned of = WeightWidth == Size ? 0 : column / Size;
      if (WeightWidth == Size || (first_team + t) % Groups == of) sum += sums[(t * 2 + half) * Size + column % Size];
    }
    partial[std::size_t{blockIdx.x} * 2 * WeightWidth + c] = sum;
  }
  if (!is_last_block(counter, static_cast<int>(gridDim.x))) return;
  // Several threads add up the blocks' sums of a column, if there are so many threads.
  constexpr int parts = G::block >= 8 * WeightWidth ? 4 : 1;
  constexpr int columns = G::block / parts;
  const int part = static_cast<int>(threadIdx.x) / columns;
  float* shares = sums;  // (parts, 2 WeightWidth)
  for (int c = static_cast<int>(threadIdx.x) % columns; c < 2 * WeightWidth; c += columns) {
    float sum = 0;
#pragma unroll 16
    for (unsigned b = static_cast<unsigned>(part); b < gridDim.x; b += parts)
      sum += partial[std::size_t{b} * 2 * WeightWidth + c];
    shares[part * 2 * WeightWidth + c] = sum;
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < 2 * WeightWidth; c += G::block) {
    float sum = 0;
#pragma unroll
    for (int p = 0; p < parts; ++p) sum += shares[p * 2 * WeightWidth + c];
    if (c < WeightWidth)
      d_weight[c] += sum;
    else if (d_bias != nullptr)
      d_bias[c - WeightWidth] += sum;
  }
}

}  // namespace norm_detail

template <>
struct Kernel<&ops::norm_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int size = C::node.attribute[ops::norm::group_width];
    constexpr int groups = C::node.width / size;
    constexpr int weight_width = C::operand(1).width;
    constexpr bool centred = C::node.attribute[ops::norm::centred] != 0;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const float* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    using G = NormGroup<size, std::min(C::template in_chunk<0>(), C::template out_chunk<0>())>;
    const Index items = call.rows() * groups;
    constexpr Index per_block = G::groups_per_block;
    call.queue().launch("a norm", norm_detail::norm_forward<G, size, groups, weight_width, centred, T, U>,
                        dim3(static_cast<unsigned>((items + per_block - 1) / per_block)), dim3(256), 0, x.data,
                        x.stride, call.template in<1>().data, bias, y.data, y.stride, items, C::node.number[0]);
  }
};

template <>
struct Kernel<&ops::norm_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int size = C::node.attribute[ops::norm::group_width];
    constexpr int groups = C::node.width / size;
    constexpr int weight_width = C::operand(2).width;
    constexpr bool centred = C::node.attribute[ops::norm::centred] != 0;
    using G =
        NormGroup<size, std::min({C::template in_chunk<0>(), C::template in_chunk<1>(), C::template out_chunk<0>()})>;
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    static_assert(std::is_same_v<U, typename C::template Out<0>>);
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    float* d_bias = nullptr;
    if constexpr (C::template is_result<2>()) d_bias = call.template out<2>().data;
    constexpr Index least = (groups + G::groups_per_block - 1) / G::groups_per_block;  // a whole row at least
    const Index items = call.rows() * groups;
    const Index blocks =
        std::max(least, std::min<Index>(2 * call.queue().multiprocessors(),
                                        (items + 4 * G::groups_per_block - 1) / (4 * G::groups_per_block)));
    float* partial = call.queue().template take<float>(blocks * 2 * weight_width);
    constexpr std::size_t shared = sizeof(float) * 2 * std::max(G::groups_per_block * size, 4 * weight_width);
    call.queue().launch("the gradient of a norm",
                        norm_detail::norm_backward<G, size, groups, weight_width, centred, T, U>,
                        dim3(static_cast<unsigned>(blocks)), dim3(256), shared, dy.data, dy.stride, x.data, x.stride,
                        call.template in<2>().data, dx.data, dx.stride, call.rows(), C::node.number[0], partial,
                        call.queue().counters(1), call.template out<1>().data, d_bias);
  }
};

}  // namespace mad::cuda
