// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// SwiGLU channel mixer.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>

namespace mad {

struct SwiGluOptions {
  int multiple_of = 16;  ///< the inner width floor(8 D / 3) is rounded up to a multiple of this
  bool bias = false;
};

/// y = w3( silu(w1 x) * w2 x ) with inner width floor(8 D / 3), rounded up (Shazeer 2020, "GLU Variants Improve
/// Transformer").
template <SwiGluOptions O>
struct SwiGluLayer {
  static constexpr std::string_view name = "swiglu";
  static constexpr std::string_view shorthand = "Sg";

  static constexpr Value forward(Value x) {
    const int inner = round_up(8 * x.width() / 3, O.multiple_of);
    const Value gate = silu(linear(x, inner, "w1", {.bias = O.bias}));
    return linear(gate * linear(x, inner, "w2", {.bias = O.bias}), x.width(), "w3", {.bias = O.bias});
  }
};

struct SwiGLU : SwiGluLayer<SwiGluOptions{}> {};

}  // namespace mad
