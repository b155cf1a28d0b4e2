// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel whose channels are a gate and two factors: the factors never lie in
/// memory, the backward pass computes them again.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/gated_short_conv/forward.cuh>
#include <mad/cuda/kernels/gated_short_conv/gradient.cuh>
#include <mad/cuda/products/row_sum.cuh>
#include <mad/ops/gated_short_conv.hpp>

#include <algorithm>
#include <numeric>

namespace mad::cuda {

template <>
struct Kernel<&ops::gated_short_conv_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = gated_short_conv_detail;
    constexpr int taps = C::node.attribute[ops::short_conv::kernel];
    constexpr int inner = C::node.width;
    constexpr int width = C::operand(0).width;
    constexpr int period = std::gcd(inner, width);
    constexpr int chunk =
        common_chunk<period, C::template in_chunk<0>(), C::template out_chunk<0>(), C::template out_chunk<1>()>();
    constexpr int columns = short_conv_detail::columns_of(3, taps, chunk, 18);
    using Cut = d::ForwardCut<taps, inner, width, columns, common_chunk<columns * taps, C::template in_chunk<1>()>()>;
    using T = typename C::template In<0>;
    static_assert(std::is_same_v<T, typename C::template Out<0>> && std::is_same_v<T, typename C::template Out<1>>);
    constexpr int size = static_cast<int>(sizeof(T));
    constexpr int together = Cut::whole ? width : std::gcd(period, Cut::share);  // neighbours in a row that is held
    constexpr int piece = common_chunk<together, C::template in_chunk<0>(), 16 / size>();
    const auto x = call.template in<0>();
    const auto gate = call.template out<0>();
    const auto product = call.template out<1>();
    const d::Strips strips = d::Strips::of(call.shape(), Cut::tokens(size));
    call.queue().launch("a gated short convolution", d::forward<Cut, T, piece>, dim3(strips.count, Cut::blocks),
                        dim3(Cut::threads), Cut::bytes(size), x.data, x.stride, call.template in<1>().data,
                        call.template in<2>().data, gate.data, gate.stride, product.data, product.stride, strips);
  }
};

template <>
struct Kernel<&ops::gated_short_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = gated_short_conv_detail;
    constexpr int taps = C::node.attribute[ops::short_conv::kernel];
    constexpr int inner = C::operand(0).width;
    constexpr int width = C::node.width;
    constexpr int period = std::gcd(inner, width);
    constexpr bool has_factor = C::has(5);
    constexpr int gate = has_factor ? 5 : 0;  // the last operand that d_gate is made of
    constexpr int chunk =
        common_chunk<period, C::template in_chunk<0>(), C::template in_chunk<1>(), C::template in_chunk<2>(),
                     C::template in_chunk<gate>(), C::template out_chunk<0>()>();
    constexpr int columns = short_conv_detail::columns_of(3 * inner / period, taps, chunk, 24);
    using Cut = d::Cut<taps, inner, width, columns, common_chunk<columns * taps, C::template in_chunk<3>()>()>;
    using T = typename C::template In<0>;
    static_assert(std::is_same_v<T, typename C::template In<1>> && std::is_same_v<T, typename C::template In<2>> &&
                  std::is_same_v<T, typename C::template In<gate>> && std::is_same_v<T, typename C::template Out<0>>);
    using Ahead = d::Ahead<Cut, T, std::min(chunk, 16 / static_cast<int>(sizeof(T))), has_factor>;
    const auto d_gate = call.template in<0>();
    const auto factor = call.template in<gate>();  // not read where there is none
    const auto d_product = call.template in<1>();
    const auto x = call.template in<2>();
    const auto dx = call.out();
    Queue& queue = call.queue();
    const auto strips = d::Strips::at_most(call.shape(), Index{Cut::strips} * queue.multiprocessors() / Cut::blocks);
    const dim3 grid((strips.count + Cut::strips - 1) / Cut::strips, Cut::blocks);
    constexpr Index weights = 3 * inner * taps;
    constexpr Index sums = weights + 3 * inner;
    float* partial = queue.template take_for_aside<float>(Index{grid.x} * sums);
    queue.launch("the gradient of a gated short convolution", d::backward<Cut, T, Ahead::piece, has_factor>, grid,
                 dim3(Cut::threads), Cut::threads / 32 * sizeof(Ahead), d_gate.data, d_gate.stride, factor.data,
                 factor.stride, d_product.data, d_product.stride, x.data, x.stride, call.template in<3>().data,
                 call.template in<4>().data, dx.data, dx.stride, partial, strips);
    add_row_sums<float>(sums_aside(call, 1), {partial, sums}, grid.x, weights, call.template out<1>().data, 3 * inner,
                        call.template out<2>().data);
  }
};

}  // namespace mad::cuda
