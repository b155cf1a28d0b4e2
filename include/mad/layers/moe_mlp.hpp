// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Mixture of experts in the channels.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/expert_linear.hpp>
#include <mad/ops/expert_weights.hpp>
#include <mad/ops/linear.hpp>

namespace mad {

struct MoeMlpOptions {
  int experts = 8;  ///< E
  int active = 2;   ///< k, experts that are kept for a token
  int inner = 0;    ///< hidden units of an expert; 0: D / 8
  bool bias = false;
  Routing routing = Routing::published;  ///< what becomes of the weights of the other experts
};

namespace moe_mlp_detail {

constexpr MoeMlpOptions intended(MoeMlpOptions options) {
  options.routing = Routing::intended;
  return options;
}

}  // namespace moe_mlp_detail

/// Mixture of experts (Lepikhin et al. 2020, GShard; Shazeer et al. 2017) as in the MAD reference: one gated map for
/// the hidden units of all experts, of whose E outputs per channel the mean weighted by the router's scores is taken.
/// All experts always run, and `down1` mixes the hidden units of all of them.
template <MoeMlpOptions O>
struct MoeMlpLayer {
  static_assert(O.experts >= 1, "mad: moe-mlp: there must be at least one expert");
  static_assert(O.active >= 1 && O.active <= O.experts, "mad: moe-mlp: active must lie between 1 and experts");
  static_assert(O.inner >= 0, "mad: moe-mlp: inner is a number of hidden units, or 0 for D / 8");

  static constexpr std::string_view name = "moe-mlp";
  static constexpr std::string_view shorthand = "MoE";
  /// Experts that are not kept have no weight.
  using Intended = MoeMlpLayer<moe_mlp_detail::intended(O)>;

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const int E = O.experts;
    const int inner = O.inner > 0 ? O.inner : D < 8 ? 1 : D / 8;
    // The reference has this parameter and never reads it: it is counted and saved, but has no gradient.
    parameter(x, "gates", {.dims = {E, inner}, .rank = 2, .initial = Initial::normal(1)});
    const Value hidden =
        linear(x, E * inner, "up1", {.bias = O.bias}) * gelu_tanh(linear(x, E * inner, "up2", {.bias = O.bias}));
    const Value p = expert_weights(linear(x, E, "router", {.bias = true}), O.active, O.routing);
    return expert_linear(hidden, p, D, "down1", O.bias);
  }
};

struct MoeMlp : MoeMlpLayer<MoeMlpOptions{}> {};

}  // namespace mad
