// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds softmax to its kernel on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/softmax.hpp>
#include <mad/ops/softmax.hpp>

namespace mad::cpu {

template <>
struct Kernel<&ops::softmax_op> {
  template <class C>
  static void run(const C& call) {
    softmax_forward<C::node.attribute[ops::softmax::group]>(call.rows(), C::node.width, call.template in<0>(),
                                                            call.out());
  }
};

template <>
struct Kernel<&ops::softmax_gradient_op> {
  template <class C>
  static void run(const C& call) {
    softmax_backward<C::node.attribute[ops::softmax::group]>(call.rows(), C::node.width, call.template in<0>(),
                                                             call.template in<1>(), call.out());
  }
};

}  // namespace mad::cpu
