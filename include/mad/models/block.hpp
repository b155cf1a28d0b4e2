// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The pieces a backbone is made of, each a layer of its own: residual blocks, the decoder, the head's norm.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>

namespace mad {

/// The norm of a whole model. The reference trains with LayerNorm from the command line and with RMSNorm in the
/// benchmark.
enum class Norm { layer_norm, rms_norm };

/// The model's norm with parameters of its own under `name`.
constexpr Value normalize(Value x, Norm norm, Name name) {
  Scope scope(x, name);
  return norm == Norm::layer_norm ? layer_norm(x) : rms_norm(x);
}

/// x + L(norm(x)): the pre-norm residual block that all backbones stack. Parameters `0.*` (norm) and `1.*` (layer).
template <Norm N, Layer L>
struct Residual {
  static constexpr std::string_view name = L::name;
  static constexpr std::string_view shorthand = [] {
    if constexpr (requires { L::shorthand; })
      return std::string_view(L::shorthand);
    else
      return std::string_view(L::name);
  }();
  using Inner = L;

  static constexpr Value forward(Value x) {
    const Value normed = normalize(x, N, "0");
    Scope scope(x, "1");
    return x + L::forward(normed);
  }
};

/// The auto-encoder's decoder of one position: norm, linear, GELU, norm, linear, GELU, no residual.
template <Norm N>
struct Decoder {
  static constexpr std::string_view name = "decoder";

  static constexpr Value forward(Value x) {
    const Value hidden = gelu(linear(normalize(x, N, "0"), x.width(), "1", {.bias = true}));
    return gelu(linear(normalize(hidden, N, "3"), x.width(), "4", {.bias = true}));
  }
};

/// The norm in front of the output embedding.
template <Norm N>
struct HeadNorm {
  static constexpr std::string_view name = "head norm";

  static constexpr Value forward(Value x) { return normalize(x, N, "0"); }
};

}  // namespace mad
