// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds rotary positions to their kernel on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/rotary.hpp>
#include <mad/ops/rotary.hpp>

namespace mad::cpu {

template <>
struct Kernel<&ops::rotary_op> {
  template <class C>
  static void run(const C& call) {
    const auto y = call.out();
    using T = std::remove_pointer_t<decltype(y.data)>;
    rotate<T>(call.shape(), sizes<C>(), call.template in<0>(), y, direction<C>());
  }
  template <class C, class T>
  static Index step_state(const Shape&) {
    return 0;
  }
  template <class C, class T>
  static void step(const C& call, Index position, T*) {
    rotate_step<T>(call.shape().batch, position, sizes<C>(), call.template in<0>(), call.out(), direction<C>());
  }

private:
  template <class C>
  static constexpr RotarySizes sizes() {
    namespace a = ops::rotary;
    const int heads = C::node.attribute[a::heads];
    return {.heads = heads,
            .head_dim = C::node.width / heads,
            .rotary = C::node.attribute[a::dims],
            .rotary_base = C::node.number[0],
            .interleaved = C::node.attribute[a::interleaved] != 0};
  }
  template <class C>
  static constexpr Turn direction() {
    return C::node.attribute[ops::rotary::backward] != 0 ? Turn::backward : Turn::forward;
  }
};

}  // namespace mad::cpu
