// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds linear maps shared by heads to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/linear_heads.hpp>
#include <mad/ops/linear_heads.hpp>

namespace mad::cpu {

namespace binding {

template <class C>
constexpr HeadMapSizes head_map_sizes() {
  namespace a = ops::linear_heads;
  return {.heads = C::node.attribute[a::heads], .in = C::node.attribute[a::in], .out = C::node.attribute[a::out]};
}

}  // namespace binding

template <>
struct Kernel<&ops::linear_heads_op> {
  template <class C>
  static void run(const C& call) {
    const auto y = call.out();
    using T = std::remove_pointer_t<decltype(y.data)>;
    const T* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    linear_heads_forward<T>(call.rows(), binding::head_map_sizes<C>(), call.template in<0>(),
                            call.template in<1>().data, bias, y, call.workspace());
  }
};

template <>
struct Kernel<&ops::linear_heads_input_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto dx = call.out();
    using T = std::remove_pointer_t<decltype(dx.data)>;
    if constexpr (C::has(2)) {
      if (!call.template in_place<2>()) {
        const auto addend = call.template in<2>();
        for (Index r = 0; r < call.rows(); ++r) std::copy_n(addend.row(r), C::node.width, dx.row(r));
      }
    }
    linear_heads_input_gradient<T>(call.rows(), binding::head_map_sizes<C>(), call.template in<0>(),
                                   call.template in<1>().data, C::has(2), dx, call.workspace());
  }
};

template <>
struct Kernel<&ops::linear_heads_weight_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto dW = call.out();
    using T = std::remove_pointer_t<decltype(dW.data)>;
    linear_heads_weight_gradient<T>(rows_of(C::operand(0).domain, call.shape()), binding::head_map_sizes<C>(),
                                    call.template in<0>(), call.template in<1>(), dW.data, call.workspace());
  }
};

}  // namespace mad::cpu
