// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds feature maps to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/feature_maps.hpp>
#include <mad/ops/feature_maps.hpp>

namespace mad::cpu {

namespace binding {

template <class C>
inline constexpr Index feature_heads = C::node.attribute[ops::feature_map::heads];
template <class C>
inline constexpr Index feature_head_width = C::node.attribute[ops::feature_map::head_width];

}  // namespace binding

template <>
struct Kernel<&ops::dpfp_op> {
  template <class C>
  static void run(const C& call) {
    dpfp_forward<binding::feature_head_width<C>>(call.rows(), binding::feature_heads<C>, call.template in<0>(),
                                                 call.out(), call.workspace());
  }
};

template <>
struct Kernel<&ops::dpfp_gradient_op> {
  template <class C>
  static void run(const C& call) {
    dpfp_backward<binding::feature_head_width<C>>(call.rows(), binding::feature_heads<C>, call.template in<0>(),
                                                  call.template in<1>(), call.out(), call.workspace());
  }
};

template <>
struct Kernel<&ops::taylor_op> {
  template <class C>
  static void run(const C& call) {
    taylor_forward<binding::feature_head_width<C>>(call.rows(), binding::feature_heads<C>, call.template in<0>(),
                                                   call.out());
  }
};

template <>
struct Kernel<&ops::taylor_gradient_op> {
  template <class C>
  static void run(const C& call) {
    taylor_backward<binding::feature_head_width<C>>(call.rows(), binding::feature_heads<C>, call.template in<0>(),
                                                    call.template in<1>(), call.out());
  }
};

}  // namespace mad::cpu
