// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// How do I write a layer of my own, and what if the vocabulary lacks the operation that it needs?
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/testing/check_layer.hpp>

#include <iostream>

using mad::Value;

// 1. A layer from the vocabulary: a name and a forward pass. Gradients, memory and counts follow from it.
struct GatedUnit {
  static constexpr std::string_view name = "gated unit";

  static constexpr Value forward(Value x) {
    return linear(sigmoid(linear(x, 32, "gate")) * linear(x, 32, "up"), x.width(), "down", {.bias = true});
  }
};

// 2. An operation of one's own, y_t = a y_{t-1} + x_t for every channel. The graph knows it by its adjoint rule.
constexpr void decay_scan_adjoint(mad::Differentiator& d, int node);
inline constexpr mad::Operation decay_scan_op{.name = "decay scan", .adjoint = &decay_scan_adjoint};
inline constexpr mad::Operation decay_scan_gradient_op{.name = "decay scan gradient", .adds = true};

//   G_t = dy_t + a G_{t+1},   dx_t = G_t,   da = sum over t of G_t y_{t-1}
constexpr void decay_scan_adjoint(mad::Differentiator& d, int node) {
  const mad::Node n = d.node(node);
  const Value y = d.forward(node);
  const Value a = d.operand(node, 1);
  const Value dx = mad::ops::make(*y.graph, decay_scan_gradient_op, n.domain, n.width, d.adjoint(node), y, a);
  const Value da = mad::ops::result(dx, 1, mad::Domain::one, n.width);  // a further output, directly behind the first
  d.add(n.operand[0], dx);
  d.add(n.operand[1], da);
}

constexpr Value decay_scan(Value x, Value a) {
  return mad::ops::make(*x.graph, decay_scan_op, mad::Domain::tokens, x.width(), x, a);
}

// Its kernels on the CPU. Rows are tokens, sequence after sequence; sizes are constants of the node.
template <>
struct mad::cpu::Kernel<&decay_scan_op> {
  template <class C>
  static void run(const C& call) {
    const auto x = call.template in<0>();
    const auto* a = call.template in<1>().data;
    const auto y = call.out();
    for (Index r = 0; r < call.rows(); ++r) {
      const bool first = r % call.shape().length == 0;
      for (Index c = 0; c < C::node.width; ++c) y.row(r)[c] = x.row(r)[c] + (first ? 0 : a[c] * y.row(r - 1)[c]);
    }
  }
};

template <>
struct mad::cpu::Kernel<&decay_scan_gradient_op> {
  template <class C>
  static void run(const C& call) {
    const auto dy = call.template in<0>();
    const auto y = call.template in<1>();
    const auto* a = call.template in<2>().data;
    const auto dx = call.template out<0>();
    auto* da = call.template out<1>().data;
    for (Index r = call.rows() - 1; r >= 0; --r) {
      const Index t = r % call.shape().length;
      const bool last = t == call.shape().length - 1;
      for (Index c = 0; c < C::node.width; ++c) {
        dx.row(r)[c] = dy.row(r)[c] + (last ? 0 : a[c] * dx.row(r + 1)[c]);
        if (t > 0) da[c] += dx.row(r)[c] * y.row(r - 1)[c];  // sums over rows are added to what is there
      }
    }
  }
};

// A layer that uses it: a linear recurrence whose memory of each channel is learned.
struct DecayMixer {
  static constexpr std::string_view name = "decay mixer";

  static constexpr Value forward(Value x) {
    const Value decay = parameter(x, "decay", {.dims = {x.width()}, .rank = 1, .initial = mad::Initial::constant(2)});
    return linear(decay_scan(linear(x, x.width(), "in"), sigmoid(decay)), x.width(), "out");
  }
};

// 3. The proof: derivatives, causality, memory. An exception says what is wrong, and where.
int main() {
  mad::testing::check_layer<GatedUnit>().or_throw();
  mad::testing::check_layer<DecayMixer, 12>().or_throw();
  std::cout << mad::testing::check_layer<DecayMixer>() << '\n';
}
