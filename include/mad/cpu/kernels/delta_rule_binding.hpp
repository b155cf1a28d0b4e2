// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the delta rule and its gradient to their kernels.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/delta_rule.hpp>
#include <mad/ops/delta_rule.hpp>

namespace mad::cpu {

namespace binding {

/// Sizes of a delta rule whose query is operand \p First of the node.
template <class C, int First>
constexpr DeltaRuleSizes delta_rule_sizes() {
  namespace a = ops::delta_rule;
  constexpr int heads = C::node.attribute[a::heads], key_heads = C::node.attribute[a::key_heads];
  return {.heads = heads,
          .key_heads = key_heads,
          .key_width = C::operand(First).width / key_heads,
          .value_width = C::operand(First + 2).width / heads,
          .scale = C::node.number[a::scale]};
}

template <int First, class T, class C>
DeltaRuleOperands<T> delta_rule_operands(const C& call) {
  DeltaRuleOperands<T> in{.query = call.template in<First>(),
                          .key = call.template in<First + 1>(),
                          .value = call.template in<First + 2>(),
                          .beta = call.template in<First + 3>()};
  if constexpr (C::has(First + 4)) in.log_decay = call.template in<First + 4>();
  return in;
}

}  // namespace binding

template <>
struct Kernel<&ops::delta_rule_op> {
  template <class C>
  static void run(const C& call) {
    constexpr DeltaRuleSizes sizes = binding::delta_rule_sizes<C, 0>();
    const auto output = call.out();
    using T = std::remove_pointer_t<decltype(output.data)>;
    delta_rule_forward<static_cast<int>(sizes.key_width), T>(
        call.shape(), sizes, binding::delta_rule_operands<0, T>(call), output, call.workspace());
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    constexpr DeltaRuleSizes sizes = binding::delta_rule_sizes<C, 0>();
    return shape.batch * sizes.heads * sizes.state();
  }
  template <class C, class T>
  static void step(const C& call, Index, T* state) {
    delta_rule_step<T>(call.shape().batch, binding::delta_rule_sizes<C, 0>(), binding::delta_rule_operands<0, T>(call),
                       state, call.out());
  }
};

template <>
struct Kernel<&ops::delta_rule_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto d_query = call.template out<0>();
    using T = std::remove_pointer_t<decltype(d_query.data)>;
    DeltaRuleGradients<T> out{.query = d_query,
                              .key = call.template out<1>(),
                              .value = call.template out<2>(),
                              .beta = call.template out<3>()};
    if constexpr (C::has(5)) out.log_decay = call.template out<4>();
    delta_rule_backward<T>(call.shape(), binding::delta_rule_sizes<C, 1>(), binding::delta_rule_operands<1, T>(call),
                           call.template in<0>(), out, call.workspace());
  }
};

}  // namespace mad::cpu
