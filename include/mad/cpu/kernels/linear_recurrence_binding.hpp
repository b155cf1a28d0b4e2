// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the linear recurrence and its gradient to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/linear_recurrence.hpp>
#include <mad/ops/linear_recurrence.hpp>

namespace mad::cpu {

namespace binding {

/// Sizes of the recurrence of a node, whose log decay, if there is one, is operand `Decay`.
template <class C, int Decay>
constexpr RecurrenceSizes recurrence_sizes() {
  namespace a = ops::linear_recurrence;
  constexpr Node n = C::node;
  RecurrenceSizes sizes{.heads = n.attribute[a::heads],
                        .key_groups = n.attribute[a::key_groups],
                        .key_width = n.attribute[a::key_width],
                        .value_width = n.attribute[a::value_width],
                        .scale = n.number[a::scale],
                        .normaliser = n.attribute[a::normaliser] != 0};
  if constexpr (n.attribute[a::decay] != 0) {
    constexpr Node decay = C::operand(Decay);
    sizes.decay = decay.width == n.attribute[a::heads] ? RecurrenceDecay::head : RecurrenceDecay::channel;
    sizes.decay_per_token = decay.domain == Domain::tokens;
  }
  return sizes;
}

/// Operands query, key, value, log decay and bonus from operand `First` on.
template <int First, class T, class C>
RecurrenceOperands<T> recurrence_operands(const C& call) {
  namespace a = ops::linear_recurrence;
  RecurrenceOperands<T> in{
      .query = call.template in<First>(), .key = call.template in<First + 1>(), .value = call.template in<First + 2>()};
  if constexpr (C::node.attribute[a::decay] != 0) in.log_decay = call.template in<First + 3>();
  if constexpr (C::node.attribute[a::bonus] != 0) in.bonus = call.template in<First + 4>().data;
  return in;
}

}  // namespace binding

template <>
struct Kernel<&ops::linear_recurrence_op> {
  template <class C>
  static void run(const C& call) {
    constexpr RecurrenceSizes sizes = binding::recurrence_sizes<C, 3>();
    const auto output = call.out();
    using T = std::remove_pointer_t<decltype(output.data)>;
    using Kind = RecurrenceKind<sizes.decay, C::node.attribute[ops::linear_recurrence::bonus] != 0,
                                recurrence_form(sizes, false)>;
    linear_recurrence_forward<Kind, T>(call.shape(), sizes, binding::recurrence_operands<0, T>(call), output,
                                       call.workspace());
  }
  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * binding::recurrence_sizes<C, 3>().state_size();
  }
  template <class C, class T>
  static void step(const C& call, Index, T* state) {
    linear_recurrence_step<T>(call.shape().batch, binding::recurrence_sizes<C, 3>(),
                              binding::recurrence_operands<0, T>(call), call.out(), state);
  }
};

template <>
struct Kernel<&ops::linear_recurrence_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::linear_recurrence;
    constexpr bool decay = C::node.attribute[a::decay_gradient] != 0;
    constexpr bool bonus = C::node.attribute[a::bonus_gradient] != 0;
    constexpr RecurrenceSizes sizes = binding::recurrence_sizes<C, 4>();
    const auto d_query = call.template out<0>();
    using T = std::remove_pointer_t<decltype(d_query.data)>;
    RecurrenceGradients<T> gradients{.query = d_query, .key = call.template out<1>(), .value = call.template out<2>()};
    if constexpr (decay) gradients.log_decay = call.template out<3>();
    if constexpr (bonus) gradients.bonus = call.template out < decay ? 4 : 3 > ().data;
    using Kind = RecurrenceKind<sizes.decay, C::node.attribute[a::bonus] != 0, recurrence_form(sizes, decay)>;
    linear_recurrence_backward<Kind, T>(call.shape(), sizes, binding::recurrence_operands<1, T>(call),
                                        call.template in<0>(), gradients, call.workspace());
  }
};

}  // namespace mad::cpu
