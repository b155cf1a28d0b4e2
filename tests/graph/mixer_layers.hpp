// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Little layers around channel mixers: some are one, some only look like it.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>

namespace mad::testing {

#define MAD_MIXER_LAYER(NAME)                       \
  struct NAME {                                     \
    static constexpr std::string_view name = #NAME; \
    static constexpr Value forward(Value x);        \
  };                                                \
  constexpr Value NAME::forward(Value x)

constexpr Value matrix(Value x, Name name, int rows, int columns) {
  return parameter(x, name, {.dims = {rows, columns}, .rank = 2, .initial = Initial::uniform(0.5)});
}
constexpr Value row(Value x, Name name, int width) {
  return parameter(x, name, {.dims = {width}, .rank = 1, .initial = Initial::constant(0.5)});
}

// Mixers.

MAD_MIXER_LAYER(OneWay) { return linear(silu(linear(x, 48, "in")), x.width(), "out"); }
/// Weights of the other order, and an addend that is not a residual.
MAD_MIXER_LAYER(LowRank) {
  const Value narrow = tanh(matmul(x, matrix(x, "down", x.width(), 16)));
  return sigmoid(matmul(narrow, matrix(x, "up", 16, x.width())) + x) * linear(x, x.width(), "value");
}
MAD_MIXER_LAYER(TwoInputs) {
  return linear(sigmoid(linear(x, 48, "gate")) * linear(x * x, 48, "squares"), x.width(), "out");
}
/// One of the products in is read twice.
MAD_MIXER_LAYER(ThreeWaysIn) {
  const Value a = linear(x, 48, "a");
  return linear(silu(a) * linear(x, 48, "b") + tanh(linear(x, 48, "c")) * a, x.width(), "out") * 0.5;
}
MAD_MIXER_LAYER(TwoWaysOut) {
  const Value inner = silu(linear(x, 32, "in"));
  return linear(inner, x.width(), "one") + linear(inner, x.width(), "other");
}
/// One matrix leads in and out: first x W^T, then h W.
MAD_MIXER_LAYER(TiedWeights) {
  const Value w = matrix(x, "w", 48, x.width());
  return matmul(silu(linear(x, w)), w);
}
/// A square matrix is W^T both times: its columns are those of the outside, then those of the inside.
MAD_MIXER_LAYER(SquareWeight) {
  const Value w = matrix(x, "w", x.width(), x.width());
  return linear(silu(linear(x, w)), w);
}
/// What leads out of one run leads into the next.
MAD_MIXER_LAYER(Chain) { return linear(silu(linear(silu(linear(x, 32, "in")), 48, "middle")), x.width(), "out"); }
/// The gradient of h has a part that the mixer's is added to.
MAD_MIXER_LAYER(GatesItsInput) {
  const Value h = linear(x, x.width(), "h");
  return linear(silu(linear(h, 48, "in")), x.width(), "out") * h;
}
MAD_MIXER_LAYER(PartOfAConcat) {
  const int half = x.width() / 2;
  return concat(linear(silu(linear(slice(x, 0, half), 48, "in")), half, "out"), slice(x, half, half));
}

// Mixers behind norms.

/// Others read what the norm computes.
MAD_MIXER_LAYER(NormReadOutside) {
  const Value normed = layer_norm(x);
  return x + linear(silu(linear(normed, 48, "in")), x.width(), "out") * normed;
}
MAD_MIXER_LAYER(NoResidual) { return linear(silu(linear(layer_norm(x), 48, "in")), x.width(), "out"); }
MAD_MIXER_LAYER(NormOfHeads) { return x + linear(silu(linear(rms_norm_heads(x, 8), 48, "in")), x.width(), "out"); }
/// Two mixers read one norm.
MAD_MIXER_LAYER(NormOfTwo) {
  const Value normed = layer_norm(x);
  Value mixed = x;
  {
    Scope scope(x, "one");
    mixed = mixed + linear(silu(linear(normed, 48, "in")), x.width(), "out");
  }
  Scope scope(x, "other");
  return mixed + linear(tanh(linear(normed, 32, "in")), x.width(), "out");
}

// None.

MAD_MIXER_LAYER(ReadInside) {
  const Value inner = silu(linear(x, 64, "in"));
  return linear(inner, x.width(), "out") + linear(square(inner), x.width(), "squares");
}
MAD_MIXER_LAYER(ProductReadOutside) {
  const Value in = linear(x, 32, "in");
  return linear(silu(in), x.width(), "out") * linear(in, x.width(), "other");
}
MAD_MIXER_LAYER(SliceOfTheInside) {
  const Value inner = silu(linear(x, 48, "in"));
  return linear(inner, x.width(), "out") + slice(inner, 0, x.width());
}
MAD_MIXER_LAYER(SliceOfAProduct) {
  const Value in = linear(x, 64, "in");
  return linear(silu(slice(in, 0, 32)), x.width(), "out");
}
MAD_MIXER_LAYER(SharedRow) { return linear(silu(linear(x, 32, "in")) * row(x, "row", 32), x.width(), "out"); }
MAD_MIXER_LAYER(SharedPositions) {
  const Value positions = parameter(x, "positions", {.dims = {Parameter::per_max_length, 32}, .rank = 2});
  return linear(silu(linear(x, 32, "in")) * positions, x.width(), "out");
}
MAD_MIXER_LAYER(OneColumn) { return linear(silu(linear(x, 32, "in")) * linear(x, 1, "column"), x.width(), "out"); }
MAD_MIXER_LAYER(ComputedWeight) {
  const Value w = slice(matrix(x, "w", 2 * 32, x.width()), 0, 32 * x.width());
  return linear(silu(linear(x, w)), x.width(), "out");
}
MAD_MIXER_LAYER(Repeated) { return linear(tile(silu(linear(x, 16, "in")), 48), x.width(), "out"); }
MAD_MIXER_LAYER(OutputInside) { return silu(linear(x, x.width(), "in")); }
MAD_MIXER_LAYER(WithBias) { return linear(silu(linear(x, 32, "in", {.bias = true})), x.width(), "out"); }
MAD_MIXER_LAYER(WithBiasOutside) { return linear(silu(linear(x, 32, "in")), x.width(), "out", {.bias = true}); }
MAD_MIXER_LAYER(OddInside) { return linear(silu(linear(x, 24, "in")), x.width(), "out"); }

// At the limits of a kernel.

/// Five weights with that of the product out.
MAD_MIXER_LAYER(FourWaysIn) {
  const Value two = linear(x, 48, "a") * linear(x, 48, "b");
  return linear(two * linear(x, 48, "c") * linear(x, 48, "d"), x.width(), "out");
}
/// Products of one value with several weights, and of another with one of these.
template <int Products>
constexpr Value ways_of_three_weights(Value x) {
  const Value a = matrix(x, "a", 48, x.width());
  const Value b = matrix(x, "b", 48, x.width());
  const Value c = matrix(x, "c", 48, x.width());
  const Value z = x * x;
  Value inner = linear(x, a) * linear(x, b) * linear(x, c) * linear(z, a);
  if (Products == 5) inner = inner * linear(z, b);
  return linear(inner, x.width(), "out");
}
MAD_MIXER_LAYER(FourWaysInOfThreeWeights) { return ways_of_three_weights<4>(x); }
MAD_MIXER_LAYER(FiveWaysInOfThreeWeights) { return ways_of_three_weights<5>(x); }
MAD_MIXER_LAYER(ThreeInputs) {
  const Value w = matrix(x, "w", 48, x.width());
  return linear(linear(x, w) * linear(x * x, w) * linear(sin(x), w), x.width(), "out");
}
#undef MAD_MIXER_LAYER

// An operation with two outputs, of which the second is exact.

namespace pair {

constexpr void adjoint(Differentiator& d, int node) { d.add(d.node(node).operand[0], d.adjoint(node)); }
inline constexpr Operation exact_op{.name = "pair", .exact_outputs = 1u << 1, .adjoint = &adjoint};
inline constexpr Operation short_op{.name = "short pair", .adjoint = &adjoint};

constexpr Value second(const Operation& op, Value x) {
  return ops::result(ops::make(*x.graph, op, x.domain(), x.width(), x), 1, x.domain(), x.width());
}

}  // namespace pair

struct FurtherOutput {
  static constexpr std::string_view name = "further output";
  static constexpr Value forward(Value x) { return x + OneWay::forward(pair::second(pair::short_op, x)); }
};
struct ExactInput {
  static constexpr std::string_view name = "exact input";
  static constexpr Value forward(Value x) { return x + OneWay::forward(pair::second(pair::exact_op, x)); }
};
/// A sum with an exact value stays a sum, but not with a view of one.
struct ExactAddend {
  static constexpr std::string_view name = "exact addend";
  static constexpr Value forward(Value x) {
    return slice(pair::second(pair::exact_op, x), 0, x.width()) + OneWay::forward(x);
  }
};

}  // namespace mad::testing
