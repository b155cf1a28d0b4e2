// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The settings of a training run.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/train/fidelity.hpp>
#include <mad/train/optimizer_settings.hpp>
#include <mad/train/schedule.hpp>

#include <cstdint>

namespace mad::train {

/// Everything that determines a training run besides model and data; defaults are the reference's.
struct TrainSettings {
  Index epochs = 200;
  Index batch_size = 128;
  double learning_rate = 5e-4;
  double weight_decay = 0;
  double min_learning_rate = 1e-6;  ///< floor of the cosine and plateau schedules
  OptimizerKind optimizer = OptimizerKind::adamw;
  ScheduleKind schedule = ScheduleKind::cosine;  ///< applied as intended; the published code never applies it
  bool early_stop = false;                       ///< stop when the test accuracy has not improved for `patience` epochs
  Index patience = 20;
  std::uint64_t seed = 12345;  ///< of the initial weights and of the order of the training examples
  Fidelity fidelity = Fidelity::published;
};

}  // namespace mad::train
