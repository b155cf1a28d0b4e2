// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// An operation that remembers the token before, and a kernel that does not say how.
// expect: this operation keeps a state from token to token
// at most: 40 lines
#include <mad/cpu/step_block.hpp>

constexpr mad::Index previous_state(const mad::Graph&, const mad::Node& n, mad::Index) { return n.width; }
inline constexpr mad::Operation previous_op{
    .name = "previous", .adjoint = [](mad::Differentiator&, int) {}, .state = &previous_state};

struct Previous {
  static constexpr std::string_view name = "previous";
  static constexpr mad::Value forward(mad::Value x) {
    return mad::ops::make(*x.graph, previous_op, x.domain(), x.width(), x);
  }
};

template <>
struct mad::cpu::Kernel<&previous_op> {
  template <class C>
  static void run(const C& call) {
    const auto x = call.template in<0>();
    for (Index r = 0; r < call.rows(); ++r)
      for (Index c = 0; c < C::node.width; ++c)
        call.out().row(r)[c] = r % call.shape().length > 0 ? x.row(r - 1)[c] : 0;
  }
#ifdef MAD_MUST_COMPILE
  template <class C, class T>
  static Index step_state(const Shape& shape) {
    return shape.batch * C::node.width;
  }
  template <class C, class T>
  static void step(const C& call, Index, T* state) {
    for (Index r = 0; r < call.rows(); ++r)
      for (Index c = 0; c < C::node.width; ++c)
        call.out().row(r)[c] = std::exchange(state[r * C::node.width + c], call.template in<0>().row(r)[c]);
  }
#endif
};

const mad::cpu::StepBlock<float>& previous_block = mad::cpu::step_block<mad::Lowered<Previous, 16>, float>;
