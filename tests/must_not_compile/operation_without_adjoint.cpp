// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Gradients cannot pass through an operation whose author gave it no adjoint rule.
// expect: gradients have to pass through an operation that has no adjoint rule
// expect: Diagnosis<Rounded, 16, .*no_adjoint
// at most: 40 lines
#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>

constexpr void pass_on([[maybe_unused]] mad::Differentiator& d, [[maybe_unused]] int node) {
  d.add(d.node(node).operand[0], d.adjoint(node));
}

#ifdef MAD_MUST_COMPILE
inline constexpr mad::Operation round_op{.name = "round", .kind = mad::Kind::elementwise, .adjoint = &pass_on};
#else
inline constexpr mad::Operation round_op{.name = "round", .kind = mad::Kind::elementwise};
#endif

struct Rounded {
  static constexpr std::string_view name = "rounded";
  static constexpr mad::Value forward(mad::Value x) { return mad::ops::elementwise(round_op, x); }
};
static_assert(mad::Lowered<Rounded, 16>::output_width == 16);
