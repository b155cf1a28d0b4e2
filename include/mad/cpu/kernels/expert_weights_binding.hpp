// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the experts' weights to their kernel on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/expert_weights.hpp>
#include <mad/ops/expert_weights.hpp>

namespace mad::cpu {

template <>
struct Kernel<&ops::expert_weights_op> {
  template <class C>
  static void run(const C& call) {
    constexpr auto routing = static_cast<Routing>(C::node.attribute[ops::expert_weights::routing]);
    expert_weights_forward<C::node.width>(call.rows(), C::node.attribute[ops::expert_weights::active],
                                          routing == Routing::published, call.template in<0>(), call.out());
  }
};

template <>
struct Kernel<&ops::expert_weights_gradient_op> {
  template <class C>
  static void run(const C& call) {
    expert_weights_backward<C::node.width>(call.rows(), C::node.attribute[ops::expert_weights::active],
                                           call.template in<0>(), call.template in<1>(), call.template in<2>(),
                                           call.out());
  }
};

}  // namespace mad::cpu
