// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Binds concatenation and accumulation, which move whole rows, to the CPU. A layer has many of them, so that what
/// tells one from the other is data and the code exists once.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/packets/packet_loop.hpp>
#include <mad/graph/differentiate.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace mad::cpu {

namespace binding {

/// y += operand k, row by row.
template <class T>
[[gnu::noinline]] void add_operand(const Operands<T>& call, int k, Domain domain, Index width) {
  const View<const T> addend = call.input(k);
  const View<T> y = call.output(0);
  const Index rows = call.rows(domain);
  for (Index r = 0; r < rows; ++r) add_elements(y.row(r), addend.row(r), width);
}

/// Copies operand k to the columns of the output from `column` on, unless it lies there.
template <class T>
[[gnu::noinline]] void copy_operand(const Operands<T>& call, int k, Domain domain, Index width, Index column) {
  const View<const T> part = call.input(k);
  const View<T> to = call.output(0).columns_from(column);
  if (part.data == to.data) return;  // written in place by its own kernel
  const Index rows = call.rows(domain);
  for (Index r = 0; r < rows; ++r) std::copy_n(part.row(r), width, to.row(r));
}

}  // namespace binding

template <>
struct Kernel<&ops::concat_op> {
  template <class C>
  static void run(const C& call) {
    Index column = 0;
    int k = 0;
    for (const Index width : widths<C>) {
      binding::copy_operand(call, k++, C::node.domain, width, column);
      column += width;
    }
  }

private:
  template <class C>
  static constexpr auto widths = [] {
    std::array<Index, static_cast<std::size_t>(C::node.operands)> list{};
    for (int k = 0; k < C::node.operands; ++k) list[static_cast<std::size_t>(k)] = C::operand(k).width;
    return list;
  }();
};

template <>
struct Kernel<&ops::accumulate_op> {
  template <class C>
  static void run(const C& call) {
    binding::add_operand(call, 0, C::node.domain, C::node.width);
  }
};

}  // namespace mad::cpu
