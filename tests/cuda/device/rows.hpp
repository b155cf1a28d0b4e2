// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of what every step pays: norms of all kinds, biases, concatenations, the embedding and the loss.
#pragma once

#include <mad/layers/mlp.hpp>
#include <mad/models/model.hpp>
#include <mad/ops/norm.hpp>

namespace mad::testing {

/// Groups with weights of their own, and heads of `HeadWidth` channels that share one weight, side by side.
template <int Groups, int HeadWidth>
struct NormsOfGroups {
  static constexpr std::string_view name = "norms-of-groups";

  static constexpr Value forward(Value x) {
    const Value own = [&] {
      Scope scope(x, "own");
      return group_norm(linear(x, x.width(), "in", {.bias = true}), Groups);
    }();
    const Value uncentred = [&] {
      Scope scope(x, "uncentred");
      return rms_norm_groups(linear(x, x.width(), "in"), Groups);
    }();
    const Value shared = [&] {
      Scope scope(x, "shared");
      return rms_norm_heads(linear(x, 2 * HeadWidth, "in", {.bias = true}), HeadWidth);
    }();
    return linear(concat(own, shared, shared, own + uncentred), x.width(), "out", {.bias = true});
  }
};

struct BiasedMlp : MlpLayer<MlpOptions{.inner = 40, .bias = true}> {};

using EvenRowsNet = Stack<NormsOfGroups<8, 64>, BiasedMlp>;
using UnevenRowsNet = Stack<NormsOfGroups<3, 7>, BiasedMlp>;
using WideRowsNet = Stack<BiasedMlp>;

}  // namespace mad::testing
