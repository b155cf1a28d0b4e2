// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the token shift to its kernel on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/token_shift.hpp>
#include <mad/ops/token_shift.hpp>

namespace mad::cpu {

template <>
struct Kernel<&ops::token_shift_op> {
  template <class C>
  static void run(const C& call) {
    token_shift_forward(call.shape(), C::node.width, call.template in<0>(), call.out());
  }
  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * C::node.width;
  }
  template <class C, class T>
  static void step(const C& call, Index, T* state) {
    token_shift_step<T>(call.shape().batch, C::node.width, call.template in<0>(), call.out(), state);
  }
};

template <>
struct Kernel<&ops::token_shift_gradient_op> {
  template <class C>
  static void run(const C& call) {
    token_shift_backward(call.shape(), C::node.width, call.template in<0>(), call.out());
  }
};

}  // namespace mad::cpu
