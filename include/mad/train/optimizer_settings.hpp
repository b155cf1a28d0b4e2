// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Which optimiser, with which constants.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/train/fidelity.hpp>

#include <string>
#include <string_view>

namespace mad::train {

enum class OptimizerKind { adamw, sgd };

constexpr std::string_view name(OptimizerKind kind) { return kind == OptimizerKind::adamw ? "adamw" : "sgd"; }

/// The inverse of `name`. \throws UsageError for any other text.
inline OptimizerKind parse_optimizer(std::string_view text) {
  if (text == "adamw") return OptimizerKind::adamw;
  if (text == "sgd") return OptimizerKind::sgd;
  throw UsageError(message({"unknown optimizer '", text, "'. Known are adamw and sgd."}));
}

struct OptimizerSettings {
  OptimizerKind kind = OptimizerKind::adamw;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  Fidelity fidelity = Fidelity::published;

  /// The settings a mode implies: betas (0.9, 0.999) as published, (0.9, 0.98) as intended.
  static constexpr OptimizerSettings of(Fidelity fidelity, OptimizerKind kind, double weight_decay) {
    return {.kind = kind,
            .weight_decay = weight_decay,
            .beta1 = 0.9,
            .beta2 = fidelity == Fidelity::published ? 0.999 : 0.98,
            .epsilon = 1e-8,
            .fidelity = fidelity};
  }
};

}  // namespace mad::train
