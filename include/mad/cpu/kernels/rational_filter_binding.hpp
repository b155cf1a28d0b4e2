// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds rational filters to their kernels on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/rational_filter.hpp>
#include <mad/ops/rational_filter.hpp>

namespace mad::cpu {

namespace binding {

/// Sizes of the filters with the coefficients `ab`.
inline RationalFilterSizes rational_filter_sizes(const Node& node, const Node& ab, Index channels, const Shape& shape) {
  const Index states = node.attribute[ops::rational_filter::state_size];
  return {.channels = channels,
          .denominators = ab.width / states - channels,
          .states = states,
          .points = rational_filter_points(shape.max_length)};
}

}  // namespace binding

template <>
struct Kernel<&ops::rational_filter_op> {
  template <class C>
  static void run(const C& call) {
    const auto h = call.out();
    using T = std::remove_pointer_t<decltype(h.data)>;
    rational_filter_forward<T>(call.rows(),
                               binding::rational_filter_sizes(C::node, C::operand(0), C::node.width, call.shape()),
                               call.template in<0>().data, call.template in<1>().data, h, call.workspace());
  }
};

template <>
struct Kernel<&ops::rational_filter_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto dh = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(dh.data)>>;
    rational_filter_backward<T>(
        rows_of(C::operand(0).domain, call.shape()),
        binding::rational_filter_sizes(C::node, C::operand(1), C::operand(0).width, call.shape()),
        call.template in<1>().data, dh, call.template out<0>().data, call.template out<1>().data, call.workspace());
  }
};

}  // namespace mad::cpu
