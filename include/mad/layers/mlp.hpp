// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Multi-layer perceptron, the channel mixer of the original Transformer.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>

namespace mad {

struct MlpOptions {
  int inner = 0;  ///< inner width; 0: 4 D
  bool bias = false;
};

/// y = proj( gelu(fc x) ) with the tanh form of the GELU (Vaswani et al. 2017; Hendrycks and Gimpel 2016).
template <MlpOptions O>
struct MlpLayer {
  static constexpr std::string_view name = "mlp";
  static constexpr std::string_view shorthand = "M";

  static constexpr Value forward(Value x) {
    const int inner = O.inner > 0 ? O.inner : 4 * x.width();
    return linear(gelu_tanh(linear(x, inner, "fc", {.bias = O.bias})), x.width(), "proj", {.bias = O.bias});
  }
};

struct Mlp : MlpLayer<MlpOptions{}> {};

}  // namespace mad
