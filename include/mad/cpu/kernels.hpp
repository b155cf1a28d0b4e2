// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds every operation of the vocabulary to its kernel on the CPU.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels/attention_binding.hpp>
#include <mad/cpu/kernels/delta_rule_binding.hpp>
#include <mad/cpu/kernels/diagonal_plus_rank_one_binding.hpp>
#include <mad/cpu/kernels/expert_linear_binding.hpp>
#include <mad/cpu/kernels/expert_weights_binding.hpp>
#include <mad/cpu/kernels/feature_maps_binding.hpp>
#include <mad/cpu/kernels/gated_scan.hpp>
#include <mad/cpu/kernels/gated_short_conv.hpp>
#include <mad/cpu/kernels/head_product_binding.hpp>
#include <mad/cpu/kernels/linear_binding.hpp>
#include <mad/cpu/kernels/linear_heads_binding.hpp>
#include <mad/cpu/kernels/linear_recurrence_binding.hpp>
#include <mad/cpu/kernels/long_conv.hpp>
#include <mad/cpu/kernels/long_conv/step.hpp>
#include <mad/cpu/kernels/norm_binding.hpp>
#include <mad/cpu/kernels/rational_filter_binding.hpp>
#include <mad/cpu/kernels/rotary_binding.hpp>
#include <mad/cpu/kernels/rows_binding.hpp>
#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/kernels/short_conv_silu.hpp>
#include <mad/cpu/kernels/short_conv_step.hpp>
#include <mad/cpu/kernels/softmax_binding.hpp>
#include <mad/cpu/kernels/sum.hpp>
#include <mad/cpu/kernels/time_step_binding.hpp>
#include <mad/cpu/kernels/toeplitz_attention_binding.hpp>
#include <mad/cpu/kernels/token_shift_binding.hpp>
#include <mad/ops/gated_short_conv.hpp>
#include <mad/ops/long_conv.hpp>
#include <mad/ops/selective_scan.hpp>
#include <mad/ops/short_conv.hpp>

namespace mad::cpu {

template <>
struct Kernel<&ops::sum_op> {
  template <class C>
  static void run(const C& call) {
    constexpr Domain from = C::operand(0).domain;
    constexpr Domain to = C::node.domain;
    constexpr bool add = !per_batch(to) && from != to;
    constexpr Index wide = C::operand(0).width, narrow = C::node.width;
    const auto x = call.input(0);
    using T = std::remove_const_t<std::remove_pointer_t<decltype(x.data)>>;
    if constexpr (narrow == wide || narrow == 1)
      sum<T>(call.shape(), from, to, wide, narrow, add, x, call.out());
    else
      sum_folded<wide, narrow, static_cast<Fold>(C::node.attribute[0]), T>(call.shape(), from, to, add, x, call.out());
  }
};

template <>
struct Kernel<&ops::short_conv_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int kernel = C::node.attribute[ops::short_conv::kernel];
    const auto x = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(x.data)>>;
    const T* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    if constexpr (has_silu<C>)
      short_conv_silu_forward<kernel, T>(call.shape(), sizes<C>(), x, call.template in<1>().data, bias, call.out(),
                                         call.workspace());
    else
      short_conv_forward<kernel, T>(call.shape(), sizes<C>(), x, call.template in<1>().data, bias, call.out(),
                                    call.workspace());
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * short_conv_step_state(sizes<C>(), shape.max_length);
  }
  template <class C, class T>
  static void step(const C& call, Index position, T* state) {
    const T* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    short_conv_step<T>(call.shape().batch, call.shape().max_length, position, sizes<C>(), call.template in<0>(),
                       call.template in<1>().data, bias, call.out(), state, call.workspace());
    if constexpr (has_silu<C>) silu_rows<T>(call.shape().batch, C::node.width, call.out());
  }

private:
  template <class C>
  static constexpr bool has_silu = C::node.attribute[ops::short_conv::silu] != 0;
  template <class C>
  static constexpr ShortConvSizes sizes() {
    return {.channels = C::node.width,
            .input_width = C::operand(0).width,
            .kernel = C::node.attribute[ops::short_conv::kernel]};
  }
};

template <>
struct Kernel<&ops::short_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int kernel = C::node.attribute[ops::short_conv::kernel];
    const auto dy = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(dy.data)>>;
    T* d_bias = nullptr;
    if constexpr (C::template is_result<2>()) d_bias = call.template out<2>().data;
    const ShortConvSizes sizes{.channels = C::operand(0).width, .input_width = C::node.width, .kernel = kernel};
    const T* bias = nullptr;
    if constexpr (C::has(3)) bias = call.template in<3>().data;
    if constexpr (C::node.attribute[ops::short_conv::silu] != 0)
      short_conv_silu_backward<kernel, T>(call.shape(), sizes, call.template in<1>(), call.template in<2>().data, bias,
                                          dy, call.template out<0>(), call.template out<1>().data, d_bias,
                                          call.workspace());
    else
      short_conv_backward<kernel, T>(call.shape(), sizes, call.template in<1>(), call.template in<2>().data, dy,
                                     call.template out<0>(), call.template out<1>().data, d_bias, call.workspace());
  }
};

template <>
struct Kernel<&ops::gated_short_conv_op> {
  template <class C>
  static void run(const C& call) {
    const auto x = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(x.data)>>;
    gated_short_conv_forward<sizes<C>().kernel, T>(call.shape(), sizes<C>(), x, call.template in<1>().data,
                                                   call.template in<2>().data, call.template out<0>(),
                                                   call.template out<1>(), call.workspace());
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * short_conv_step_state(sizes<C>(), shape.max_length);
  }
  template <class C, class T>
  static void step(const C& call, Index position, T* state) {
    gated_short_conv_step<T>(call.shape().batch, call.shape().max_length, position, sizes<C>(), call.template in<0>(),
                             call.template in<1>().data, call.template in<2>().data, call.template out<0>(),
                             call.template out<1>(), state, call.workspace());
  }

private:
  template <class C>
  static constexpr ShortConvSizes sizes() {
    return {.channels = 3 * C::node.width,
            .input_width = C::operand(0).width,
            .kernel = C::node.attribute[ops::short_conv::kernel]};
  }
};

template <>
struct Kernel<&ops::gated_short_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int kernel = C::node.attribute[ops::short_conv::kernel];
    const auto d_gate = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(d_gate.data)>>;
    const auto run_with = [&](const auto& rows) {
      gated_short_conv_backward<kernel, T>(
          call.shape(), {.channels = 3 * C::operand(0).width, .input_width = C::node.width, .kernel = kernel},
          call.template in<2>(), call.template in<3>().data, call.template in<4>().data, rows, call.template in<1>(),
          call.template out<0>(), call.template out<1>().data, call.template out<2>().data, call.workspace());
    };
    if constexpr (C::has(5))
      run_with(detail::ProductOfRows<T>{d_gate, call.template in<5>()});
    else
      run_with(View<const T>(d_gate));
  }
};

template <>
struct Kernel<&ops::long_conv_prepare_op> {
  template <class C, class T>
  static Index size(const Shape& shape) {
    return LongConv<T>(shape.length, channels<C>(), C::node.width).prepared_size();
  }
  template <class C>
  static void run(const C& call) {
    const auto h = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(h.data)>>;
    LongConv<T>(call.shape().length, channels<C>(), C::node.width)
        .prepare(h, call.template in<1>().data, call.out().data, call.workspace());
  }

private:
  /// Channels of the convolution that the filter is prepared for.
  template <class C>
  static constexpr Index channels() {
    return C::node.attribute[0];
  }
};

template <>
struct Kernel<&ops::long_conv_op> {
  template <class C>
  static void run(const C& call) {
    const auto u = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(u.data)>>;
    LongConv<T>(call.shape().length, C::node.width, C::operand(2).width)
        .forward(call.shape().batch, u, call.template in<1>().data, call.out(), call.workspace());
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * long_conv_step_state(shape.max_length, C::node.width);
  }
  template <class C, class T>
  static void step(const C& call, Index position, T* state) {
    long_conv_step<T>(call.shape().batch, call.shape().max_length, position, C::node.width, C::operand(2).width,
                      call.template in<0>(), call.template in<2>(), call.template in<3>().data, call.out(), state);
  }
};

template <>
struct Kernel<&ops::long_conv_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto dy = call.template in<0>();
    using T = std::remove_const_t<std::remove_pointer_t<decltype(dy.data)>>;
    LongConv<T>(call.shape().length, C::node.width, C::operand(3).width)
        .backward(call.shape().batch, call.template in<1>(), call.template in<2>().data, dy, call.template out<0>(),
                  call.template out<1>(), call.template out<2>().data, call.workspace());
  }
};

namespace binding {

/// Columns of a node of a scan.
template <class C>
constexpr ScanSizes scan_sizes() {
  return {.channels = C::node.width, .states = C::node.attribute[ops::selective_scan::state_size]};
}
/// Operands u, step, A, BC, D, z of a scan from operand \p First on.
template <int First, class T, class C>
GatedScanOperands<T> scan_operands(const C& call) {
  const View<const T> maps = call.template in<First + 3>();
  return {.scan = {.u = call.template in<First>(),
                   .dt = call.template in<First + 1>(),
                   .a = call.template in<First + 2>().data,
                   .b = maps,
                   .c = maps.columns_from(scan_sizes<C>().states),
                   .skip = call.template in<First + 4>().data},
          .gate = call.template in<First + 5>()};
}
/// \p rows are those of kept states, and have nothing between them.
template <class T, class C>
KeptStates<T> kept_states(const C& call, View<T> rows) {
  const ScanSizes sizes = scan_sizes<C>();
  const int columns =
      ops::selective_scan::kept_columns(static_cast<int>(sizes.channels), static_cast<int>(sizes.states));
  return {rows.data, rows.stride == columns ? call.shape().tokens() * columns : 0};
}

}  // namespace binding

template <>
struct Kernel<&ops::selective_scan_op> {
  template <class C>
  static void run(const C& call) {
    const auto out = call.out();
    using T = std::remove_pointer_t<decltype(out.data)>;
    gated_scan_forward<states<C>, T>(call.shape(), binding::scan_sizes<C>(), binding::scan_operands<0, T>(call), out,
                                     call.workspace(), nullptr, binding::kept_states<T>(call, call.template out<1>()));
  }

  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * selective_scan_step_state(binding::scan_sizes<C>());
  }
  template <class C, class T>
  static void step(const C& call, Index, T* state) {
    gated_scan_step<states<C>, T>(call.shape().batch, binding::scan_sizes<C>(), binding::scan_operands<0, T>(call),
                                  call.out(), state, call.workspace());
  }

private:
  template <class C>
  static constexpr int states = C::node.attribute[ops::selective_scan::state_size];
};

template <>
struct Kernel<&ops::selective_scan_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int states = C::node.attribute[ops::selective_scan::state_size];
    const auto du = call.template out<0>();
    using T = std::remove_pointer_t<decltype(du.data)>;
    const View<T> d_maps = call.template out<3>();
    const GatedScanGradients<T> gradients{.scan = {.u = du,
                                                   .dt = call.template out<1>(),
                                                   .a = call.template out<4>().data,
                                                   .b = d_maps,
                                                   .c = d_maps.columns_from(states),
                                                   .skip = call.template out<5>().data},
                                          .gate = call.template out<2>()};
    gated_scan_backward<states, T>(call.shape(), binding::scan_sizes<C>(), binding::scan_operands<1, T>(call),
                                   call.template in<0>(), gradients, call.workspace(),
                                   binding::kept_states<const T>(call, call.template in<7>()));
  }
};

}  // namespace mad::cpu
