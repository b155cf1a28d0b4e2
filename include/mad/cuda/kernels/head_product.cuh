// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The product of two maps shared by heads, and its gradients:
///
///     y_h = a_h * c_h,  a_h = x_h W1^T + b1,  c_h = x_h W2^T + b2:
///     da_h = dy_h * c_h,  dc_h = dy_h * a_h,  dx_h = da_h W1 + dc_h W2,  dW1 = sum over rows and heads of da_h^T x_h
///
/// One kernel each way reads and writes what there is no way around: factors are computed again in the backward pass.
/// Sums over items are those of blocks first, which a second kernel adds up.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/head_product/exact.cuh>
#include <mad/cuda/kernels/head_product/tensor.cuh>
#include <mad/cuda/products/row_sum.cuh>
#include <mad/ops/head_product.hpp>

#include <algorithm>
#include <type_traits>

namespace mad::cuda {

namespace head_product {

/// Sizes of a product, and where its maps begin among the operands of call C.
template <class C, int FirstMap>
struct Sizes {
  static constexpr int heads = C::node.attribute[ops::linear_heads::heads];
  static constexpr int in = C::node.attribute[ops::linear_heads::in];
  static constexpr int out = C::node.attribute[ops::linear_heads::out];

  static Maps maps(const C& call) {
    return {{operand<0>(call), operand<2>(call)}, {operand<1>(call), operand<3>(call)}};
  }
  /// Whether values of these types, of which so many neighbours are read and written at once, go to the tensor cores.
  template <class... T>
  static constexpr bool on_tensor_cores(int chunk) {
    return (std::is_same_v<T, BFloat16> && ...) && in % 8 == 0 && out % 8 == 0 && chunk >= 2;
  }

private:
  template <int K>
  static const float* operand(const C& call) {
    static_assert(std::is_same_v<typename C::template In<FirstMap + K>, float>);
    return call.template in<FirstMap + K>().data;
  }
};

}  // namespace head_product

template <>
struct Kernel<&ops::head_product_op> {
  template <class C>
  static void run(const C& call) {
    using S = head_product::Sizes<C, 1>;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const Index items = call.rows() * S::heads;
    const auto launch = [&](auto* kernel, Index per_block, int threads) {
      call.queue().launch(
          "a product of maps shared by heads", kernel, dim3(static_cast<unsigned>((items + per_block - 1) / per_block)),
          dim3(static_cast<unsigned>(threads)), 0, x.data, x.stride, S::maps(call), y.data, y.stride, items);
    };
    if constexpr (S::template on_tensor_cores<T, U>(std::min(C::template in_chunk<0>(), C::template out_chunk<0>()))) {
      launch(head_product::forward_tensor<S::heads, S::in, S::out>, head_product::forward_items<S::in>,
             head_product::forward_threads);
    } else {
      constexpr int in_chunk = common_chunk<S::in, C::template in_chunk<0>()>();
      constexpr int out_chunk = common_chunk<S::out, C::template out_chunk<0>()>();
      launch(head_product::forward_exact<S::heads, S::in, S::out, in_chunk, out_chunk, T, U>,
             head_product::exact_threads, head_product::exact_threads);
    }
  }
};

template <>
struct Kernel<&ops::head_product_gradient_op> {
  template <class C>
  static void run(const C& call) {
    using S = head_product::Sizes<C, 2>;
    using G = head_product::Gradients<S::in, S::out>;
    using T = typename C::template In<0>;
    using X = typename C::template In<1>;
    using U = typename C::template Out<0>;
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    const Index items = call.rows() * S::heads;
    if (items == 0) return;  // sums are added to
    // Each block is a row of sums that somebody has to read; two of them fill a multiprocessor's registers.
    const Index most = 2 * Index{call.queue().multiprocessors()};
    Index blocks = 1;
    float* partial = nullptr;
    const auto launch = [&](auto* kernel, Index per_block, int threads) {
      blocks = std::clamp<Index>((items + per_block - 1) / per_block, 1, most);
      partial = call.queue().template take_for_aside<float>(blocks * G::all);
      call.queue().launch("the gradient of a product of maps shared by heads", kernel,
                          dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), 0, dy.data,
                          dy.stride, x.data, x.stride, S::maps(call), dx.data, dx.stride, partial, items);
    };
    constexpr int dx_chunk = std::min(C::template in_chunk<1>(), C::template out_chunk<0>());
    if constexpr (S::template on_tensor_cores<T, X, U>(std::min(C::template in_chunk<0>(), dx_chunk))) {
      using Tiles = head_product::BackwardTiles<S::in, S::out>;
      launch(head_product::backward_tensor<S::heads, S::in, S::out>, Tiles::items, Tiles::threads);
    } else {
      constexpr int in_chunk = common_chunk<S::in, dx_chunk>();
      constexpr int out_chunk = common_chunk<S::out, C::template in_chunk<0>()>();
      launch(head_product::backward_exact<S::heads, S::in, S::out, in_chunk, out_chunk, T, X, U>,
             head_product::ExactTiles<S::in, S::out>::items, head_product::exact_threads);
    }
    const auto sum = [&](int column, int columns, float* to) {
      return RowSum<float>{partial + column, G::all, static_cast<unsigned>(columns), to};
    };
    const RowSum<float> sums[] = {sum(G::weight(0, 0, 0), G::weights, call.template out<1>().data),
                                  sum(G::bias(0, 0), S::out, call.template out<2>().data),
                                  sum(G::weight(1, 0, 0), G::weights, call.template out<3>().data),
                                  sum(G::bias(1, 0), S::out, call.template out<4>().data)};
    add_row_sums<float>(sums_aside(call, 1), sums, blocks);
  }
};

}  // namespace mad::cuda
