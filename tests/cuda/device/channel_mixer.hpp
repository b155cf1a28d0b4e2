// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of channel mixers, of all forms that their kernel takes and some that it does not.
#pragma once

#include <mad/layers/mlp.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/rwkv7.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// A few columns between two weights of the other order, (in, out), and an addend that is not the residual.
struct LowRank {
  static constexpr std::string_view name = "low-rank";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const auto weight = [&](Name which, int rows, int columns) {
      return parameter(x, which,
                       {.dims = {rows, columns}, .rank = 2, .role = Role::matrix, .initial = Initial::normal(0.2)});
    };
    const Value narrow = tanh(matmul(x, weight("down", D, 16)));
    return sigmoid(matmul(narrow, weight("up", 16, D)) + x) * linear(x, D, "value");
  }
};

/// Two values lead in, and two gradients would leave: no mixer.
struct TwoInputs {
  static constexpr std::string_view name = "two-inputs";

  static constexpr Value forward(Value x) {
    const Value gate = sigmoid(linear(x, 96, "gate"));
    const Value squares = linear(x * x, 96, "squares");
    return linear(gate * squares, x.width(), "out");
  }
};

/// Three products lead in, and one of them is read twice.
struct ThreeWaysIn {
  static constexpr std::string_view name = "three-ways-in";

  static constexpr Value forward(Value x) {
    const Value a = linear(x, 48, "a");
    const Value inner = silu(a) * linear(x, 48, "b") + tanh(linear(x, 48, "c")) * a;
    return linear(inner, x.width(), "out") * 0.5;
  }
};
/// Products read two values of the inside: no mixer.
struct ReadInside {
  static constexpr std::string_view name = "read-inside";

  static constexpr Value forward(Value x) {
    const Value inner = silu(linear(x, 64, "in"));
    return linear(inner, x.width(), "out") + linear(square(inner), x.width(), "squares");
  }
};

/// Rows that begin at odd places: two bytes are all that can be read at once.
struct OddPlaces {
  static constexpr std::string_view name = "odd-places";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const Value wide = linear(x, D + 17, "wide", {.bias = true});
    return linear(silu(linear(slice(wide, 1, D), 32, "in")), D, "out") + slice(wide, 17, D);
  }
};

/// What leaves one mixer leads into the next, and a square weight is read both ways.
struct MixerAfterMixer {
  static constexpr std::string_view name = "mixer-after-mixer";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const Value square_weight =
        parameter(x, "square", {.dims = {D, D}, .rank = 2, .role = Role::matrix, .initial = Initial::normal(0.1)});
    const Value first = linear(silu(linear(x, D, "in")), D, "between");
    const Value second = linear(tanh(first), D, "out");
    return second + matmul(silu(matmul(x, square_weight)), square_weight);
  }
};

using GatedNet = Stack<SwiGLU, Mlp, LowRank>;
using RoutedMixersNet = Stack<TwoInputs, ThreeWaysIn, ReadInside, OddPlaces, MixerAfterMixer>;
using ShiftedNet = Stack<RWKV6ChannelMixer, RWKV7ChannelMixer>;
/// Insides of one part, of several narrow ones, and of an odd number of wide ones.
using NarrowInsidesNet =
    Stack<MlpLayer<MlpOptions{.inner = 32}>, MlpLayer<MlpOptions{.inner = 48}>, MlpLayer<MlpOptions{.inner = 160}>>;

}  // namespace mad::testing
