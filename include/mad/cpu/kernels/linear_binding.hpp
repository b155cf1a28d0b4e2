// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds linear maps and their gradients to the CPU. Most steps of a layer are such maps, so that what tells one from
/// the other is data and the code exists once.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/linear.hpp>
#include <mad/cpu/kernels/linear_step.hpp>
#include <mad/cpu/kernels/rows_binding.hpp>
#include <mad/ops/linear.hpp>

#include <algorithm>

namespace mad::cpu {

namespace binding {

template <class C>
constexpr WeightOrder weight_order() {
  return C::node.attribute[ops::linear::weight_in_out] != 0 ? WeightOrder::in_out : WeightOrder::out_in;
}

/// What the kernels below must know of their node.
struct LinearMap {
  Domain domain;  ///< of the rows
  Index in;
  Index out;
  WeightOrder order;
  bool bias = false;    ///< operand 2, where there is one
  bool addend = false;  ///< the last operand
};

template <class T>
[[gnu::noinline]] void run_linear(const Operands<T>& call, const LinearMap& map) {
  linear_forward<T>(call.rows(map.domain), map.in, map.out, call.input(0), call.input(1).data,
                    map.bias ? call.input(2).data : nullptr, call.output(0), call.workspace(), map.order);
  if (map.addend) add_operand(call, map.bias ? 3 : 2, map.domain, map.out);
}

/// The same for a token of each sequence, which keeps nothing: another kernel.
template <class T>
[[gnu::noinline]] void step_linear(const Operands<T>& call, const LinearMap& map) {
  if (map.order == WeightOrder::in_out) return run_linear(call, map);
  linear_step<T>(call.rows(map.domain), map.in, map.out, call.input(0), call.input(1).data,
                 map.bias ? call.input(2).data : nullptr, call.output(0));
  if (map.addend) add_operand(call, map.bias ? 3 : 2, map.domain, map.out);
}

template <class T>
[[gnu::noinline]] void run_linear_input_gradient(const Operands<T>& call, const LinearMap& map) {
  const View<T> dx = call.output(0);
  const Index rows = call.rows(map.domain);
  if (map.addend) {
    const View<const T> addend = call.input(2);
    if (addend.data != dx.data)
      for (Index r = 0; r < rows; ++r) std::copy_n(addend.row(r), map.in, dx.row(r));
  }
  linear_input_gradient<T>(rows, map.in, map.out, call.input(0), call.input(1).data, map.addend, dx, call.workspace(),
                           map.order);
}

template <class T>
[[gnu::noinline]] void run_linear_weight_gradient(const Operands<T>& call, const LinearMap& map) {
  linear_weight_gradient<T>(rows_of(map.domain, call.shape()), map.in, map.out, call.input(0), call.input(1),
                            call.output(0).data, call.workspace(), map.order);
}

/// The map of a forward node whose last `Addends` operands are added to it.
template <class C, int Addends>
inline constexpr LinearMap forward_map{.domain = C::node.domain,
                                       .in = C::operand(0).width,
                                       .out = C::node.width,
                                       .order = weight_order<C>(),
                                       .bias = C::node.operands - Addends > 2,
                                       .addend = Addends > 0};

}  // namespace binding

template <>
struct Kernel<&ops::linear_op> {
  template <class C>
  static void run(const C& call) {
    binding::run_linear(call, binding::forward_map<C, 0>);
  }

  template <class C, class T>
  static Index step_state(const Shape&) {
    return 0;
  }
  template <class C, class T>
  static void step(const C& call, Index, T*) {
    binding::step_linear(call, binding::forward_map<C, 0>);
  }
};

template <>
struct Kernel<&ops::linear_sum_op> {
  template <class C>
  static void run(const C& call) {
    binding::run_linear(call, binding::forward_map<C, 1>);
  }

  template <class C, class T>
  static Index step_state(const Shape&) {
    return 0;
  }
  template <class C, class T>
  static void step(const C& call, Index, T*) {
    binding::step_linear(call, binding::forward_map<C, 1>);
  }
};

template <>
struct Kernel<&ops::linear_input_gradient_op> {
  template <class C>
  static void run(const C& call) {
    static constexpr binding::LinearMap map{.domain = C::node.domain,
                                            .in = C::node.width,
                                            .out = C::operand(0).width,
                                            .order = binding::weight_order<C>(),
                                            .addend = C::has(2)};
    binding::run_linear_input_gradient(call, map);
  }
};

template <>
struct Kernel<&ops::linear_weight_gradient_op> {
  template <class C>
  static void run(const C& call) {
    static constexpr binding::LinearMap map{.domain = C::operand(0).domain,
                                            .in = C::operand(1).width,
                                            .out = C::operand(0).width,
                                            .order = binding::weight_order<C>()};
    binding::run_linear_weight_gradient(call, map);
  }
};

}  // namespace mad::cpu
