// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds the time step of a selective scan to the CPU: the linear map's kernel, and softplus where its result lies.
#pragma once

#include <mad/cpu/kernels/linear_binding.hpp>
#include <mad/cpu/kernels/time_step.hpp>
#include <mad/ops/time_step.hpp>

namespace mad::cpu {

namespace binding {

template <class T>
[[gnu::noinline]] void run_time_step(const Operands<T>& call, const LinearMap& map) {
  run_linear(call, map);
  softplus_rows<T>(call.rows(map.domain), map.out, call.output(0));
}

/// The same for a token of each sequence.
template <class T>
[[gnu::noinline]] void step_time_step(const Operands<T>& call, const LinearMap& map) {
  step_linear(call, map);
  softplus_rows<T>(call.rows(map.domain), map.out, call.output(0));
}

}  // namespace binding

template <>
struct Kernel<&ops::time_step_op> {
  template <class C>
  static void run(const C& call) {
    binding::run_time_step(call, binding::forward_map<C, 0>);
  }

  template <class C, class T>
  static Index step_state(const Shape&) {
    return 0;
  }
  template <class C, class T>
  static void step(const C& call, Index, T*) {
    binding::step_time_step(call, binding::forward_map<C, 0>);
  }
};

}  // namespace mad::cpu
