// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the recurrence of RWKV-7 and its gradient to their kernels.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/diagonal_plus_rank_one.hpp>
#include <mad/ops/diagonal_plus_rank_one.hpp>

namespace mad::cpu {

namespace binding {

/// Sizes of a recurrence whose r is operand \p First of the node.
template <class C, int First>
constexpr RankOneSizes rank_one_sizes() {
  constexpr int heads = C::node.attribute[ops::diagonal_plus_rank_one::heads];
  return {
      .heads = heads, .key_width = C::operand(First).width / heads, .value_width = C::operand(First + 3).width / heads};
}

template <int First, class T, class C>
RankOneOperands<T> rank_one_operands(const C& call) {
  return {.r = call.template in<First>(),
          .log_w = call.template in<First + 1>(),
          .k = call.template in<First + 2>(),
          .v = call.template in<First + 3>(),
          .a = call.template in<First + 4>(),
          .b = call.template in<First + 5>()};
}

}  // namespace binding

template <>
struct Kernel<&ops::diagonal_plus_rank_one_op> {
  template <class C>
  static void run(const C& call) {
    constexpr RankOneSizes sizes = binding::rank_one_sizes<C, 0>();
    constexpr int key_width = detail::rank_one_registers(sizes.key_width);
    const auto o = call.out();
    using T = std::remove_pointer_t<decltype(o.data)>;
    diagonal_plus_rank_one_forward<key_width, T>(call.shape(), sizes, binding::rank_one_operands<0, T>(call), o,
                                                 call.workspace());
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    constexpr RankOneSizes sizes = binding::rank_one_sizes<C, 0>();
    return shape.batch * sizes.heads * sizes.state();
  }
  template <class C, class T>
  static void step(const C& call, Index, T* state) {
    diagonal_plus_rank_one_step<T>(call.shape().batch, binding::rank_one_sizes<C, 0>(),
                                   binding::rank_one_operands<0, T>(call), state, call.out(), call.workspace());
  }
};

template <>
struct Kernel<&ops::diagonal_plus_rank_one_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr RankOneSizes sizes = binding::rank_one_sizes<C, 1>();
    constexpr int key_width = detail::rank_one_registers(sizes.key_width);
    constexpr int value_width = detail::rank_one_registers(sizes.value_width);
    const auto d_r = call.template out<0>();
    using T = std::remove_pointer_t<decltype(d_r.data)>;
    const RankOneGradients<T> out{.r = d_r,
                                  .log_w = call.template out<1>(),
                                  .k = call.template out<2>(),
                                  .v = call.template out<3>(),
                                  .a = call.template out<4>(),
                                  .b = call.template out<5>()};
    diagonal_plus_rank_one_backward<key_width, value_width, T>(
        call.shape(), sizes, binding::rank_one_operands<1, T>(call), call.template in<0>(), out, call.workspace());
  }
};

}  // namespace mad::cpu
