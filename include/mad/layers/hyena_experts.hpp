// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Hyena whose channels are experts: a routed sum over them instead of a wide output projection.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/layers/hyena_filter.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/expert_weights.hpp>
#include <mad/ops/gated_short_conv.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/long_conv.hpp>
#include <mad/ops/short_conv.hpp>

namespace mad {

/// What a Hyena-experts layer applies to its gated output.
enum class HyenaActivation { identity, silu, relu, gelu, gelu_tanh, sigmoid, tanh };

struct HyenaExpertsOptions {
  int experts = 8;            ///< E; the width of an expert is D / E
  int active_experts = 2;     ///< k: the experts with the k largest scores are kept
  int order = 2;              ///< n: n - 1 stages of gate and long convolution, and a last gate
  int short_filter = 3;       ///< taps of the depthwise convolution after the projection
  bool outer_mixing = false;  ///< stages are gated by the sum of the gate's channels instead of each channel's own
  HyenaActivation activation = HyenaActivation::identity;
  Routing routing = Routing::published;  ///< what becomes of the experts that are not kept
  FilterKind filter_kind = FilterKind::implicit;
  FilterOptions filter{.order = 16};
  RationalFilterOptions rational{};
};

namespace hyena_experts {

/// Columns stage, stage + stages, stage + 2 stages, ... of x: the filters of a stage lie that far apart.
constexpr Value columns_of_stage(Value x, int stage, int stages) {
  if (stages == 1) return x;
  Graph& g = *x.graph;
  // The sum over each channel's stages of x times 1 for this one, else 0.
  const Value one = zeros(g, Domain::one, 1) + 1.0;
  const Value chosen = stage == 0 ? concat(one, zeros(g, Domain::one, stages - 1))
                       : stage == stages - 1
                           ? concat(zeros(g, Domain::one, stages - 1), one)
                           : concat(zeros(g, Domain::one, stage), one, zeros(g, Domain::one, stages - 1 - stage));
  return sum_to(x * tile(chosen, x.width()), x.domain(), x.width() / stages, Fold::spread);
}

constexpr Value activate(Value x, HyenaActivation how) {
  switch (how) {
    case HyenaActivation::identity:
      return x;
    case HyenaActivation::silu:
      return silu(x);
    case HyenaActivation::relu:
      return relu(x);
    case HyenaActivation::gelu:
      return gelu(x);
    case HyenaActivation::gelu_tanh:
      return gelu_tanh(x);
    case HyenaActivation::sigmoid:
      return sigmoid(x);
    case HyenaActivation::tanh:
      return tanh(x);
  }
  return x;
}

constexpr HyenaExpertsOptions intended(HyenaExpertsOptions options) {
  options.routing = Routing::intended;
  return options;
}

}  // namespace hyena_experts

/// Hyena experts of the MAD paper (Poli et al. 2024, arXiv 2403.17844) as in the reference: after the short convolution
/// the blocks x_0, ..., x_{n-1}, v of D channels, then
///
///     v <- h_s conv (v x_{n-1-s}) + bias_s v x_{n-1-s}        for the stages s = 0 .. n-2
///     y = act(v x_0),   out_proj(sum_e p_e y_{i,e})
///
/// where channel i E + e belongs to expert e and p are the router's weights for the layer's input. All experts run.
template <HyenaExpertsOptions O>
struct HyenaExpertsLayer {
  static constexpr std::string_view name = "hyena-experts";
  static constexpr std::string_view shorthand = "He";
  /// Experts that are not kept have no weight.
  using Intended = HyenaExpertsLayer<hyena_experts::intended(O)>;
  static_assert(O.order >= 2, "mad: hyena-experts: order must be at least 2.");
  static_assert(O.experts >= 1, "mad: hyena-experts: experts must be at least 1.");
  static_assert(O.active_experts >= 1 && O.active_experts <= O.experts,
                "mad: hyena-experts: active_experts must be at least 1 and at most experts.");

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const int stages = O.order - 1;
    if (D % O.experts != 0) {
      x.graph->fail(Fault::not_divisible, D, O.experts);
      return x;
    }
    const Value projected = linear(x, (O.order + 1) * D, "in_proj", {.bias = true});
    Value u, last_gate, v;
    if (O.order == 2 && !O.outer_mixing) {
      const GatedShortConv convolved = gated_short_conv(projected, D, O.short_filter, "short_filter");
      last_gate = convolved.gate;
      v = convolved.product;
    } else {
      u = short_conv(projected, (O.order + 1) * D, O.short_filter, "short_filter");
      last_gate = slice(u, 0, D);
      v = slice(u, O.order * D, D) * stage_gate(u, 0, D);
    }
    const Value bias = parameter(x, "long_conv.bias", {.dims = {D * stages}, .rank = 1, .initial = Initial::normal(1)});
    const Value filters = hyena_filter(x, D * stages, O);

    for (int s = 0; s < stages; ++s) {
      if (s > 0) v = v * stage_gate(u, s, D);
      v = long_conv(v, hyena_experts::columns_of_stage(filters, s, stages),
                    hyena_experts::columns_of_stage(bias, s, stages));
    }
    const Value y = hyena_experts::activate(v * last_gate, O.activation);
    const Value p = expert_weights(linear(x, O.experts, "router", {.bias = true}), O.active_experts, O.routing);
    const Value mixed = sum_to(y * tile(p, D), y.domain(), D / O.experts, Fold::spread);
    return linear(mixed, D, "out_proj", {.bias = true});
  }

private:
  /// What the input of a stage's convolution is multiplied with; u are all blocks.
  static constexpr Value stage_gate(Value u, int stage, int D) {
    const Value gate = slice(u, (O.order - 1 - stage) * D, D);
    return O.outer_mixing ? sum_to(gate, gate.domain(), 1) : gate;
  }
};

struct HyenaExperts : HyenaExpertsLayer<HyenaExpertsOptions{}> {};

}  // namespace mad
