// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds norms and their gradients to the CPU. Norms of equal size share their code, in whatever layer they are.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/norm.hpp>
#include <mad/cpu/kernels/rows_binding.hpp>
#include <mad/ops/norm.hpp>

namespace mad::cpu {

namespace binding {

enum class NormKind { group, group_rms, head_rms };

/// What a norm's kernel must know of its node besides the size of its parts.
struct NormFacts {
  Domain domain;
  Index width;
  double eps;
  bool bias = false;
  bool addend = false;  ///< operand 3 of the gradient
};

template <NormKind Kind, int Size, class T>
[[gnu::noinline]] void run_norm(const Operands<T>& call, const NormFacts& f) {
  const View<const T> x = call.input(0);
  const T* weight = call.input(1).data;
  const View<T> y = call.output(0);
  const Index rows = call.rows(f.domain), parts = f.width / Size;
  if constexpr (Kind == NormKind::group)
    group_norm_forward<Size>(x, weight, f.bias ? call.input(2).data : nullptr, y, rows, f.width, parts, f.eps);
  else if constexpr (Kind == NormKind::head_rms)
    head_rms_norm_forward<Size>(x, weight, y, rows, parts, Size, f.eps);
  else
    group_rms_norm_forward<Size>(x, weight, y, rows, f.width, parts, f.eps);
}

template <NormKind Kind, int Size, class T>
[[gnu::noinline]] void run_norm_gradient(const Operands<T>& call, const NormFacts& f) {
  const View<const T> dy = call.input(0), x = call.input(1);
  const T* weight = call.input(2).data;
  const View<T> dx = call.output(0);
  T* d_weight = call.output(1).data;
  const Index rows = call.rows(f.domain), parts = f.width / Size;
  if constexpr (Kind == NormKind::group)
    group_norm_backward<Size>(x, weight, dy, dx, d_weight, call.output(2).data, rows, f.width, parts, f.eps);
  else if constexpr (Kind == NormKind::head_rms)
    head_rms_norm_backward<Size>(x, weight, dy, dx, d_weight, rows, parts, Size, f.eps);
  else
    group_rms_norm_backward<Size>(x, weight, dy, dx, d_weight, rows, f.width, parts, f.eps);
  if (f.addend) add_operand(call, 3, f.domain, f.width);
}

template <class C>
constexpr NormKind norm_kind(bool centred, int weight_operand) {
  if (centred) return NormKind::group;
  return C::operand(weight_operand).width == C::node.attribute[ops::norm::group_width] ? NormKind::head_rms
                                                                                       : NormKind::group_rms;
}

}  // namespace binding

template <>
struct Kernel<&ops::norm_op> {
  template <class C>
  static void run(const C& call) {
    static constexpr binding::NormFacts facts{
        .domain = C::node.domain, .width = C::node.width, .eps = C::node.number[0], .bias = C::has(2)};
    constexpr auto kind = binding::norm_kind<C>(C::node.attribute[ops::norm::centred] != 0, 1);
    binding::run_norm<kind, C::node.attribute[ops::norm::group_width]>(call, facts);
  }
};

template <>
struct Kernel<&ops::norm_gradient_op> {
  template <class C>
  static void run(const C& call) {
    static constexpr binding::NormFacts facts{
        .domain = C::node.domain, .width = C::node.width, .eps = C::node.number[0], .addend = C::has(3)};
    constexpr auto kind = binding::norm_kind<C>(C::template is_result<2>(), 2);
    binding::run_norm_gradient<kind, C::node.attribute[ops::norm::group_width]>(call, facts);
  }
};

}  // namespace mad::cpu
