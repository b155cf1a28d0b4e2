// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds attention and its gradient to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/attention.hpp>
#include <mad/cpu/kernels/attention/step.hpp>
#include <mad/ops/attention.hpp>

namespace mad::cpu {

namespace binding {

template <class C>
AttentionSizes attention_sizes(int width) {
  namespace a = ops::attention;
  const Node& n = C::node;
  const int heads = n.attribute[a::heads];
  return {.heads = heads,
          .kv_heads = n.attribute[a::kv_heads],
          .head_dim = width / heads,
          .window = n.attribute[a::window],
          .scale = n.number[a::scale],
          .rotary = n.attribute[a::rotary],
          .rotary_base = n.number[a::rotary_base],
          .interleaved = n.attribute[a::interleaved] != 0};
}

}  // namespace binding

template <>
struct Kernel<&ops::attention_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int head_dim = C::node.width / C::node.attribute[ops::attention::heads];
    const auto q = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(q.data)>>;
    attention_forward<head_dim, T>(call.shape(), binding::attention_sizes<C>(C::node.width), q, call.template in<1>(),
                                   call.template in<2>(), call.template out<0>(), call.template out<1>(),
                                   call.workspace());
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * attention_step_state(binding::attention_sizes<C>(C::node.width), shape.max_length);
  }
  /// Leaves the log-sum-exp alone, which only the backward pass reads.
  template <class C, class T>
  static void step(const C& call, Index position, T* state) {
    attention_step<T>(call.shape().batch, call.shape().max_length, position, binding::attention_sizes<C>(C::node.width),
                      call.template in<0>(), call.template in<1>(), call.template in<2>(), call.template out<0>(),
                      state, call.workspace());
  }
};

template <>
struct Kernel<&ops::attention_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int head_dim = C::node.width / C::node.attribute[ops::attention::heads];
    const auto q = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(q.data)>>;
    attention_backward<head_dim, T>(call.shape(), binding::attention_sizes<C>(C::node.width), q, call.template in<1>(),
                                    call.template in<2>(), call.template in<3>(), call.template in<4>(),
                                    call.template in<5>(), call.template out<0>(), call.template out<1>(),
                                    call.template out<2>(), call.workspace());
  }
};

}  // namespace mad::cpu
