// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// An operation from outside the library, y_t = a y_{t-1} + x_t per channel, that can be told to make one mistake.
#pragma once

#include <mad/testing/check_layer.hpp>

#include <vector>

namespace mad::testing {

enum class Mistake : int {
  none,
  adjoint_factor,    // the gradient of the input is off by one part in 10^4
  last_gradient,     // the gradient of one of the decays is zero
  looks_ahead,       // the last token reaches all others
  mixes_sequences,   // the state survives the end of a sequence
  overwrites,        // the gradient of the decay is written and not added
  leaves_a_hole,     // the last row is not written
  keeps_a_state,     // a call depends on the calls before
  writes_its_input,  // in the backward pass
};

constexpr void scan_adjoint(Differentiator& d, int node);
inline constexpr Operation scan_op{.name = "scan", .adjoint = &scan_adjoint};
inline constexpr Operation scan_gradient_op{.name = "scan gradient", .adds = true};

//   G_t = dy_t + a G_{t+1},   dx_t = G_t,   da = sum_t G_t y_{t-1}
constexpr void scan_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  Graph& g = *d.adjoint(node).graph;
  const Value decay{&g, n.operand[1]};
  const Value dx = ops::make(g, scan_gradient_op, n.domain, n.width, d.adjoint(node), Value{&g, node}, decay);
  g.nodes[dx.id].attribute[0] = n.attribute[0];
  const Value d_decay = ops::result(dx, 1, Domain::one, n.width);
  d.add(n.operand[0], dx);
  d.add(n.operand[1], d_decay);
}

constexpr Value scan(Value x, Value decay, Mistake mistake) {
  const Value y = ops::make(*x.graph, scan_op, Domain::tokens, x.width(), x, decay);
  x.graph->nodes[y.id].attribute[0] = static_cast<int>(mistake);
  return y;
}

/// The decay is a parameter itself, or computed from one: its gradient then takes another way.
template <Mistake M, bool Direct = false>
struct ScanLayer {
  static constexpr std::string_view name = "scan";

  static constexpr Value forward(Value x) {
    const Value a = parameter(x, "decay", {.dims = {x.width()}, .rank = 1, .initial = Initial::constant(0.5)});
    return scan(x, Direct ? a : sigmoid(a), M);
  }
};

}  // namespace mad::testing

namespace mad::cpu {

template <>
struct Kernel<&testing::scan_op> {
  template <class C>
  static void run(const C& call) {
    constexpr auto mistake = static_cast<testing::Mistake>(C::node.attribute[0]);
    const auto x = call.template in<0>();
    const auto y = call.out();
    const auto* a = call.template in<1>().data;
    const Index length = call.shape().length;
    const Index written = call.rows() - (mistake == testing::Mistake::leaves_a_hole ? 1 : 0);
    for (Index r = 0; r < written; ++r)
      for (Index c = 0; c < C::node.width; ++c) {
        const bool first = mistake == testing::Mistake::mixes_sequences ? r == 0 : r % length == 0;
        y.row(r)[c] = x.row(r)[c];
        if (!first) y.row(r)[c] += a[c] * y.row(r - 1)[c];
        if (mistake == testing::Mistake::looks_ahead) y.row(r)[c] += 1e-3 * x.row(r - r % length + length - 1)[c];
        if (mistake == testing::Mistake::keeps_a_state) y.row(r)[c] += 1e-9 * static_cast<double>(calls);
      }
    ++calls;
  }
  inline static int calls = 0;
};

template <>
struct Kernel<&testing::scan_gradient_op> {
  template <class C>
  static void run(const C& call) {
    using T = std::remove_pointer_t<decltype(call.out().data)>;
    constexpr auto mistake = static_cast<testing::Mistake>(C::node.attribute[0]);
    const auto dy = call.template in<0>();
    const auto y = call.template in<1>();
    const T* a = call.template in<2>().data;
    const auto dx = call.out();
    T* da = call.template out<1>().data;
    const Index length = call.shape().length;
    if (mistake == testing::Mistake::overwrites) std::fill_n(da, C::node.width, T(0));
    for (Index r = call.rows() - 1; r >= 0; --r)
      for (Index c = 0; c < C::node.width; ++c) {
        dx.row(r)[c] = dy.row(r)[c];
        if (r % length != length - 1) dx.row(r)[c] += a[c] * dx.row(r + 1)[c];
        if (r % length != 0 && (mistake != testing::Mistake::last_gradient || c != 13))
          da[c] += dx.row(r)[c] * y.row(r - 1)[c];
      }
    if (mistake == testing::Mistake::adjoint_factor)
      for (Index r = 0; r < call.rows(); ++r)
        for (Index c = 0; c < C::node.width; ++c) dx.row(r)[c] *= T(1.0001);
    if (mistake == testing::Mistake::writes_its_input) const_cast<T*>(dy.data)[0] += 1;
  }
};

}  // namespace mad::cpu
