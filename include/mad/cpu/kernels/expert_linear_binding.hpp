// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the linear maps of experts to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/expert_linear.hpp>
#include <mad/ops/expert_linear.hpp>

namespace mad::cpu {

template <>
struct Kernel<&ops::expert_linear_op> {
  template <class C>
  static void run(const C& call) {
    const auto y = call.out();
    using T = std::remove_pointer_t<decltype(y.data)>;
    const T* bias = nullptr;
    if constexpr (C::has(3)) bias = call.template in<3>().data;
    expert_linear_forward<T>(
        call.rows(), {.experts = C::operand(1).width, .in = C::operand(0).width, .out = C::node.width},
        call.template in<0>(), call.template in<1>(), call.template in<2>().data, bias, y, call.workspace());
  }
};

template <>
struct Kernel<&ops::expert_linear_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto d_x = call.template out<0>();
    using T = std::remove_pointer_t<decltype(d_x.data)>;
    const T* bias = nullptr;
    ExpertLinearGradients<T> d{d_x, call.template out<1>(), call.template out<2>().data, nullptr};
    if constexpr (C::has(4)) {
      bias = call.template in<4>().data;
      d.bias = call.template out<3>().data;
    }
    expert_linear_backward<T>(call.rows(),
                              {.experts = C::operand(2).width, .in = C::node.width, .out = C::operand(0).width},
                              call.template in<0>(), call.template in<1>(), call.template in<2>(),
                              call.template in<3>().data, bias, d, call.workspace());
  }
};

}  // namespace mad::cpu
