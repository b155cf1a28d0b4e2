// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run whose steps the device times or not, as the tests see it.
#pragma once

#include "device_model.hpp"

#include <mad/train/epoch_mean.hpp>

#include <vector>

namespace mad::testing {

struct StepTimes {
  std::vector<double> losses;
  std::vector<double> milliseconds;
};

/// `epochs` epochs over the training rows in order, and the test rows behind the first: batch by batch.
StepTimes run_on_device(bool timed, const TokenRows& train, const TokenRows& test, Index batch, int epochs);

}  // namespace mad::testing
