// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds attention to its kernels: the sizes of a call, the table of rotations, and which kernel serves which type.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/attention/exact.cuh>
#include <mad/cuda/kernels/attention/narrow.cuh>
#include <mad/cuda/kernels/attention/narrow_gradient.cuh>
#include <mad/cuda/kernels/attention/tensor.cuh>
#include <mad/cuda/kernels/attention/tensor_gradient.cuh>
#include <mad/ops/attention.hpp>

#include <type_traits>
#include <utility>

namespace mad::cuda {

namespace attention_detail {

template <class C>
AttentionSizes sizes(const C& call) {
  namespace a = ops::attention;
  const Node& n = C::node;
  AttentionSizes s;
  s.length = static_cast<int>(call.shape().length);
  s.batch = static_cast<int>(call.shape().batch);
  s.heads = n.attribute[a::heads];
  s.kv_heads = n.attribute[a::kv_heads];
  s.window = n.attribute[a::window] < 0 ? s.length : n.attribute[a::window];
  s.scale = static_cast<float>(n.number[a::scale]);
  s.rotary = n.attribute[a::rotary];
  s.interleaved = n.attribute[a::interleaved] != 0;
  if (s.rotary > 0)
    s.rotations = rotation_table(call.queue(), s.rotary, n.number[a::rotary_base], call.shape().max_length);
  return s;
}

/// True if all rows of the operands [0, K...) and outputs [0, L...) of a call that are bfloat16 begin at multiples of
/// 16 bytes.
template <class C, int... K, int... L>
constexpr bool is_aligned(std::integer_sequence<int, K...>, std::integer_sequence<int, L...>) {
  return ((!std::is_same_v<typename C::template In<K>, BFloat16> || C::template in_chunk<K>() >= 8) && ...) &&
         ((!std::is_same_v<typename C::template Out<L>, BFloat16> || C::template out_chunk<L>() >= 8) && ...);
}

enum class Kernels { exact, tensor, narrow };

/// Which kernels take a call with so many operands and outputs.
template <class C, int Operands, int Outputs>
constexpr Kernels kernels(int width) {
  constexpr bool is_short = std::is_same_v<typename C::template In<0>, BFloat16>;
  constexpr bool aligned =
      is_aligned<C>(std::make_integer_sequence<int, Operands>{}, std::make_integer_sequence<int, Outputs>{});
  if (!is_short || !aligned || width % 8 != 0 || width > 128) return Kernels::exact;
  return width <= 16 ? Kernels::narrow : Kernels::tensor;
}

}  // namespace attention_detail

template <>
struct Kernel<&ops::attention_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int head_width = C::node.width / C::node.attribute[ops::attention::heads];
    const auto go = [&](auto kernel) {
      kernel(call.queue(), attention_detail::sizes(call), call.template in<0>(), call.template in<1>(),
             call.template in<2>(), call.template out<0>(), call.template out<1>());
    };
    constexpr auto kernels = attention_detail::kernels<C, 3, 2>(head_width);
    if constexpr (kernels == attention_detail::Kernels::narrow)
      go(&attention_forward_narrow<head_width>);
    else if constexpr (kernels == attention_detail::Kernels::tensor)
      go(&attention_forward_tensor<head_width>);
    else
      go(&attention_forward<head_width, typename C::template In<0>>);
  }
};

template <>
struct Kernel<&ops::attention_gradient_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int head_width = C::node.width / C::node.attribute[ops::attention::heads];
    const auto go = [&](auto kernel) {
      kernel(call.queue(), attention_detail::sizes(call), call.template in<0>(), call.template in<1>(),
             call.template in<2>(), call.template in<3>(), call.template in<4>(), call.template in<5>(),
             call.template out<0>(), call.template out<1>(), call.template out<2>());
    };
    constexpr auto kernels = attention_detail::kernels<C, 6, 3>(head_width);
    if constexpr (kernels == attention_detail::Kernels::narrow)
      go(&attention_backward_narrow<head_width>);
    else if constexpr (kernels == attention_detail::Kernels::tensor)
      go(&attention_backward_tensor<head_width>);
    else
      go(&attention_backward<head_width, typename C::template In<0>>);
  }
};

}  // namespace mad::cuda
