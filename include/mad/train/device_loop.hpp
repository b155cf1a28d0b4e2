// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// An epoch on a device that takes all its steps at once.
#pragma once

#include <mad/tasks/dataset.hpp>
#include <mad/train/accelerator.hpp>
#include <mad/train/epoch.hpp>
#include <mad/train/settings.hpp>
#include <mad/train/state.hpp>

#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <vector>

namespace mad::train {

/// `HostLoop` for a device. The host waits once per epoch, behind the evaluation of the test set. Parameters and
/// moments come to the host only to be saved; that costs more than an epoch may take, so it is done every few seconds.
class DeviceLoop {
public:
  static constexpr std::chrono::seconds between_saves{10};

  DeviceLoop(DeviceModel& model, const tasks::CompactExamples& train, const tasks::CompactExamples& test,
             const TrainSettings& settings)
      : settings_(OptimizerSettings::of(settings.fidelity, settings.optimizer, settings.weight_decay)),
        batches_((train.rows + settings.batch_size - 1) / settings.batch_size),
        optimizer_(settings_, model.layout().infos),
        run_(model.begin(span_of(train), span_of(test), settings.batch_size, settings_)) {}

  EpochResult run_epoch(std::span<const Index> order, const Schedule& schedule, TrainingState& state,
                        const Watch& watch) {
    const auto first = static_cast<Index>(state.batches.size());
    run_->begin_epoch(order, schedule, first);
    Index started = first;
    while (started < batches_ && !watch.asked_to_stop()) {
      started += run_->start_steps();
      watch.tell(started, last_loss_);
    }
    const bool whole = started == batches_;
    if (whole) run_->start_evaluation(Half::test);
    const std::vector<BatchResult> results = run_->finish();
    const auto trained = static_cast<std::size_t>(started - first);
    for (const BatchResult& b : std::span(results).first(trained)) {
      state.batches.push_back(b.metrics);
      state.batch_sequences.push_back(b.sequences);
      // A batch in which nothing counts has no loss, and changes nothing.
      if (b.counted > 0 && !std::isfinite(b.metrics.loss)) return {.end = EpochEnd::diverged, .test = {}};
      ++state.steps;
      last_loss_ = b.metrics.loss;
    }
    if (!whole) return {.end = EpochEnd::interrupted, .test = {}};
    return {.end = EpochEnd::complete, .test = mean(std::span(results).subspan(trained))};
  }

  Metrics measure(Half half) {
    run_->start_evaluation(half);
    return mean(run_->finish());
  }

  void keep_best() { run_->keep_best(); }
  void return_to_best() { run_->return_to_best(); }

  bool is_time_to_save() const { return std::chrono::steady_clock::now() - saved_ >= between_saves; }
  /// Unless `current`, parameters, best and moments are older than the state.
  RunStore<float>::View view(TrainingState& state, bool current) {
    if (current) {
      run_->read(numbers_);
      optimizer_.restore(numbers_.steps, numbers_.first_moment, numbers_.second_moment);
      saved_ = std::chrono::steady_clock::now();
    }
    return {state, numbers_.parameters, numbers_.best, optimizer_, current, false};
  }
  /// Takes over what was written to `view`.
  void adopt() {
    numbers_.steps = optimizer_.step_count();
    const auto copy = [](std::span<const float> from, std::vector<float>& to) { to.assign(from.begin(), from.end()); };
    copy(optimizer_.first_moment(), numbers_.first_moment);
    copy(optimizer_.second_moment(), numbers_.second_moment);
    run_->write(numbers_);
  }

private:
  static ExampleSpan span_of(const tasks::CompactExamples& e) { return {e.inputs, e.targets, e.rows, e.columns}; }
  static Metrics mean(std::span<const BatchResult> batches) {
    EpochMean mean;
    for (const BatchResult& b : batches) mean.add(b.metrics, b.sequences);
    return mean.mean();
  }

  OptimizerSettings settings_;
  Index batches_;
  Optimizer<float> optimizer_;  ///< the moments on their way to and from a checkpoint
  std::unique_ptr<DeviceRun> run_;
  RunNumbers numbers_;
  double last_loss_ = std::numeric_limits<double>::quiet_NaN();
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

}  // namespace mad::train
