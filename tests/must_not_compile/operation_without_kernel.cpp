// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// An operation that the graph knows but the CPU does not.
// expect: this operation has no kernel on the CPU
// expect: swap_op
// at most: 40 lines
#include <mad/cpu/block.hpp>

constexpr void swap_adjoint(mad::Differentiator& d, int node);
inline constexpr mad::Operation swap_op{.name = "swap", .adjoint = &swap_adjoint};
constexpr void swap_adjoint(mad::Differentiator& d, int node) {
  const mad::Value dy = d.adjoint(node);
  d.add(d.node(node).operand[0], mad::ops::make(*dy.graph, swap_op, dy.domain(), dy.width(), dy));
}

struct Swap {
  static constexpr std::string_view name = "swap";
  static constexpr mad::Value forward(mad::Value x) {
    return mad::ops::make(*x.graph, swap_op, x.domain(), x.width(), x);
  }
};

#ifdef MAD_MUST_COMPILE
template <>
struct mad::cpu::Kernel<&swap_op> {
  template <class C>
  static void run(const C& call) {
    for (Index r = 0; r < call.rows(); ++r)
      for (Index c = 0; c < C::node.width; ++c)
        call.out().row(r)[c] = call.template in<0>().row(r)[C::node.width - 1 - c];
  }
};
#endif

const mad::cpu::Block<float>& swap_block = mad::cpu::block<mad::Lowered<Swap, 16>, float>;
