// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds products of two maps shared by heads to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/head_product.hpp>
#include <mad/cpu/kernels/linear_heads_binding.hpp>
#include <mad/ops/head_product.hpp>

namespace mad::cpu {

namespace binding {

/// The two maps, the first of whose operands is number K.
template <int K, class C>
auto head_maps(const C& call) {
  const auto first = call.template in<K>();
  using T = std::remove_const_t<std::remove_pointer_t<decltype(first.data)>>;
  return TwoHeadMaps<const T>{first.data, call.template in<K + 1>().data, call.template in<K + 2>().data,
                              call.template in<K + 3>().data};
}

}  // namespace binding

template <>
struct Kernel<&ops::head_product_op> {
  template <class C>
  static void run(const C& call) {
    constexpr HeadMapSizes sizes = binding::head_map_sizes<C>();
    head_product_forward<sizes.out>(call.rows(), sizes, call.template in<0>(), binding::head_maps<1>(call), call.out(),
                                    call.workspace());
  }
};

template <>
struct Kernel<&ops::head_product_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr HeadMapSizes sizes = binding::head_map_sizes<C>();
    const auto dx = call.out();
    using T = std::remove_pointer_t<decltype(dx.data)>;
    const TwoHeadMaps<T> gradients{call.template out<1>().data, call.template out<2>().data,
                                   call.template out<3>().data, call.template out<4>().data};
    head_product_backward<sizes.out>(call.rows(), sizes, call.template in<0>(), call.template in<1>(),
                                     binding::head_maps<2>(call), dx, gradients, call.workspace());
  }
};

}  // namespace mad::cpu
