// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How an epoch ends, and who watches it.
#pragma once

#include <mad/core/function_view.hpp>
#include <mad/core/shape.hpp>
#include <mad/train/epoch_mean.hpp>
#include <mad/train/interrupt.hpp>

namespace mad::train {

enum class EpochEnd { complete, interrupted, diverged };

/// What came of an epoch; `test` is measured at the end of a complete one.
struct EpochResult {
  EpochEnd end = EpochEnd::complete;
  Metrics test;
};

/// Who is asked and told between steps.
struct Watch {
  const InterruptGuard* interrupt = nullptr;
  FunctionView<void(Index batches, double loss)> progress = {};  ///< batches of the epoch so far, latest loss

  bool asked_to_stop() const { return interrupt != nullptr && interrupt->requested(); }
  void tell(Index batches, double loss) const {
    if (progress) progress(batches, loss);
  }
};

}  // namespace mad::train
