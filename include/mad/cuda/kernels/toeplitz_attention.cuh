// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds attention under a Toeplitz mask to its kernels.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/toeplitz_attention/correlation.cuh>
#include <mad/cuda/kernels/toeplitz_attention/exact.cuh>
#include <mad/cuda/kernels/toeplitz_attention/tensor.cuh>
#include <mad/ops/toeplitz_attention.hpp>

#include <type_traits>

namespace mad::cuda {

namespace toeplitz_detail {

/// Which kernels serve heads of Width channels, `Chunk` of which can be read and written at once.
template <int Width, int Chunk, class T>
struct Kernels {
  static constexpr bool tensor = std::is_same_v<T, BFloat16> && Width <= toeplitz_tensor::largest_width;

  template <int Count>
  static void sum(Queue& queue, const toeplitz::SumList<T, Count>& sums, const toeplitz::Filter& filter,
                  const Shape& shape) {
    if constexpr (tensor)
      toeplitz_tensor::launch_sums<Width, Chunk>(queue, sums, filter, shape);
    else
      toeplitz_exact::launch_sums<Width>(queue, sums, filter, shape);
  }
  static toeplitz::Partial correlate(Queue& queue, View<const T> q, View<const T> k, View<const T> v, View<const T> dy,
                                     int heads, const Shape& shape) {
    if constexpr (tensor)
      return toeplitz_tensor::launch_correlation<Width, Chunk>(queue, q, k, v, dy, heads, shape);
    else
      return toeplitz_exact::launch_correlation<Width>(queue, q, k, v, dy, heads, shape);
  }
};

/// The filter of a call that has h as operand K and skip behind it.
template <int K, class C>
toeplitz::Filter filter_of(const C& call) {
  const auto h = call.template in<K>();
  return {h.data, static_cast<std::size_t>(h.stride), call.template in<K + 1>().data,
          static_cast<int>(call.shape().length), C::operand(K).width};
}

}  // namespace toeplitz_detail

template <>
struct Kernel<&ops::toeplitz_attention_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int width = C::node.attribute[ops::toeplitz_attention::head_width];
    constexpr int chunk = common_chunk<width, C::template in_chunk<0>(), C::template in_chunk<1>(),
                                       C::template in_chunk<2>(), C::template out_chunk<0>()>();
    using T = typename C::template Out<0>;
    const toeplitz::SumList<T, 1> sums{
        {{call.template in<0>(), call.template in<1>(), call.template in<2>(), call.out(), false}}};
    toeplitz_detail::Kernels<width, chunk, T>::sum(call.queue(), sums, toeplitz_detail::filter_of<3>(call),
                                                   call.shape());
  }
};

template <>
struct Kernel<&ops::toeplitz_attention_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int width = C::node.attribute[ops::toeplitz_attention::head_width];
    constexpr int chunk = common_chunk<width, C::template in_chunk<0>(), C::template in_chunk<1>(),
                                       C::template in_chunk<2>(), C::template in_chunk<3>(), C::template out_chunk<0>(),
                                       C::template out_chunk<1>(), C::template out_chunk<2>()>();
    using T = typename C::template Out<0>;
    using K = toeplitz_detail::Kernels<width, chunk, T>;
    const View<const T> dy = call.template in<0>();
    const View<const T> q = call.template in<1>();
    const View<const T> k = call.template in<2>();
    const View<const T> v = call.template in<3>();
    const toeplitz::Filter filter = toeplitz_detail::filter_of<4>(call);
    const toeplitz::SumList<T, 3> sums{{{dy, v, k, call.template out<0>(), false},
                                        {v, dy, q, call.template out<1>(), true},
                                        {k, q, dy, call.template out<2>(), true}}};
    Queue& aside = queue_aside(call.context, call.read(), call.written().subspan(3));
    const toeplitz::Partial partial = K::correlate(aside, q, k, v, dy, filter.heads, call.shape());
    toeplitz::add_filter_gradient(aside, partial, call.template out<3>(), call.template out<4>().data,
                                  call.shape().length);
    K::sum(call.queue(), sums, filter, call.shape());
  }
};

}  // namespace mad::cuda
