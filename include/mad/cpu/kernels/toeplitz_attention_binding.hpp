// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds attention under a Toeplitz mask to its kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/toeplitz_attention.hpp>
#include <mad/ops/toeplitz_attention.hpp>

namespace mad::cpu {

namespace binding {

template <class C>
constexpr int toeplitz_head_width = C::node.attribute[ops::toeplitz_attention::head_width];

template <class C>
constexpr ToeplitzAttentionSizes toeplitz_sizes() {
  return {.heads = C::node.width / toeplitz_head_width<C>, .head_width = toeplitz_head_width<C>};
}

/// Operands q, k, v, h, skip from operand \p First on.
template <int First, class T, class C>
ToeplitzAttentionOperands<T> toeplitz_operands(const C& call) {
  return {.q = call.template in<First>(),
          .k = call.template in<First + 1>(),
          .v = call.template in<First + 2>(),
          .filter = call.template in<First + 3>(),
          .skip = call.template in<First + 4>().data};
}

}  // namespace binding

template <>
struct Kernel<&ops::toeplitz_attention_op> {
  template <class C>
  static void run(const C& call) {
    const auto y = call.out();
    using T = std::remove_pointer_t<decltype(y.data)>;
    toeplitz_attention_forward<binding::toeplitz_head_width<C>, T>(
        call.shape(), binding::toeplitz_sizes<C>(), binding::toeplitz_operands<0, T>(call), y, call.workspace());
  }
  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * toeplitz_attention_step_state(shape.max_length, binding::toeplitz_sizes<C>());
  }
  template <class C, class T>
  static void step(const C& call, Index position, T* state) {
    toeplitz_attention_step<T>(call.shape().batch, call.shape().max_length, position, binding::toeplitz_sizes<C>(),
                               binding::toeplitz_operands<0, T>(call), call.out(), state);
  }
};

template <>
struct Kernel<&ops::toeplitz_attention_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto dy = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(dy.data)>>;
    toeplitz_attention_backward<binding::toeplitz_head_width<C>, T>(call.shape(), binding::toeplitz_sizes<C>(),
                                                                    binding::toeplitz_operands<1, T>(call), dy,
                                                                    {.q = call.template out<0>(),
                                                                     .k = call.template out<1>(),
                                                                     .v = call.template out<2>(),
                                                                     .filter = call.template out<3>(),
                                                                     .skip = call.template out<4>().data},
                                                                    call.workspace());
  }
};

}  // namespace mad::cpu
