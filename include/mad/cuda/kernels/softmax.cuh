// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax over groups of channels, and its gradient.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/norm.cuh>
#include <mad/ops/softmax.hpp>

namespace mad::cuda {

namespace softmax_detail {

/// The largest of the numbers of `Lanes` neighbouring lanes of a warp, in all of them.
template <int Lanes>
__device__ inline float lane_max(float x) {
#pragma unroll
  for (int offset = Lanes / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

/// The lane's channels of a group spread as G says, minus infinity where the group has no more.
template <class G, class T>
__device__ inline void load_scores(const T* from, float (&x)[G::per_lane]) {
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) x[i] = -INFINITY;
  G::for_chunks([&](int i, int c) { load(from + c, reinterpret_cast<float(&)[G::chunk]>(x[i])); });
}

/// exp(x) / sum of exp(x) over the group, in place; 0 for minus infinity.
template <class G>
__device__ inline void normalise(float (&x)[G::per_lane]) {
  float largest = x[0];
#pragma unroll
  for (int i = 1; i < G::per_lane; ++i) largest = fmaxf(largest, x[i]);
  largest = lane_max<G::lanes>(largest);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) {
    x[i] = expf(x[i] - largest);
    sum += x[i];
  }
  const float scale = 1 / lane_sum<G::lanes>(sum);
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) x[i] *= scale;
}

/// dy to y (dy - sum of dy y over the group), in place.
template <class G>
__device__ inline void change(float (&dy)[G::per_lane], const float (&y)[G::per_lane]) {
  float mean = 0;
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) mean += dy[i] * y[i];
  mean = lane_sum<G::lanes>(mean);
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) dy[i] = y[i] * (dy[i] - mean);
}

/// `Groups` groups of `Size` channels in a row, a team of lanes each; y may be the memory of x.
template <class G, int Size, int Groups, class T, class U>
__global__ void __launch_bounds__(G::block)
    forward(const T* x, std::size_t x_stride, U* y, std::size_t y_stride, unsigned items) {
  const unsigned item = blockIdx.x * G::groups_per_block + threadIdx.x / G::lanes;
  const bool here = item < items;  // all lanes take part in the sums
  const unsigned row = here ? item / Groups : 0;
  const unsigned channel = here ? item % Groups * Size : 0;
  float value[G::per_lane];
  load_scores<G>(x + row * x_stride + channel, value);
  normalise<G>(value);
  if (here) G::store_group(y + row * y_stride + channel, value);
}

/// dx may be the memory of dy.
template <class G, int Size, int Groups, class T, class U, class V>
__global__ void __launch_bounds__(G::block)
    backward(const T* dy, std::size_t dy_stride, const U* y, std::size_t y_stride, V* dx, std::size_t dx_stride,
             unsigned items) {
  const unsigned item = blockIdx.x * G::groups_per_block + threadIdx.x / G::lanes;
  const bool here = item < items;
  const unsigned row = here ? item / Groups : 0;
  const unsigned channel = here ? item % Groups * Size : 0;
  float gradient[G::per_lane];
  float value[G::per_lane];
  G::load_group(dy + row * dy_stride + channel, gradient);
  G::load_group(y + row * y_stride + channel, value);
  change<G>(gradient, value);
  if (here) G::store_group(dx + row * dx_stride + channel, gradient);
}

template <class G>
dim3 blocks(Index items) {
  constexpr Index per_block = G::groups_per_block;
  return dim3(static_cast<unsigned>((items + per_block - 1) / per_block));
}

}  // namespace softmax_detail

template <>
struct Kernel<&ops::softmax_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = softmax_detail;
    constexpr int size = C::node.attribute[ops::softmax::group];
    constexpr int groups = C::node.width / size;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    using G = NormGroup<size, std::min(C::template in_chunk<0>(), C::template out_chunk<0>())>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const Index items = call.rows() * groups;
    call.queue().launch("a softmax", d::forward<G, size, groups, T, U>, d::blocks<G>(items), dim3(G::block), 0, x.data,
                        x.stride, y.data, y.stride, items);
  }
};

template <>
struct Kernel<&ops::softmax_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = softmax_detail;
    constexpr int size = C::node.attribute[ops::softmax::group];
    constexpr int groups = C::node.width / size;
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    using V = typename C::template Out<0>;
    using G =
        NormGroup<size, std::min({C::template in_chunk<0>(), C::template in_chunk<1>(), C::template out_chunk<0>()})>;
    const auto dy = call.template in<0>();
    const auto y = call.template in<1>();
    const auto dx = call.out();
    const Index items = call.rows() * groups;
    call.queue().launch("the gradient of a softmax", d::backward<G, size, groups, T, U, V>, d::blocks<G>(items),
                        dim3(G::block), 0, dy.data, dy.stride, y.data, y.stride, dx.data, dx.stride, items);
  }
};

}  // namespace mad::cuda
