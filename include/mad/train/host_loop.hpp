// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// An epoch on a model that answers batch by batch: `cpu::Model`, or one with the same interface.
#pragma once

#include <mad/tasks/dataset.hpp>
#include <mad/train/accelerator.hpp>
#include <mad/train/epoch.hpp>
#include <mad/train/metrics.hpp>
#include <mad/train/settings.hpp>
#include <mad/train/state.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

namespace mad::train {

/// The part of a run that knows its model: see `Trainer`, which knows the protocol.
template <class Model, class T>
class HostLoop {
public:
  HostLoop(Model& model, const tasks::CompactExamples& train, const tasks::CompactExamples& test,
           const TrainSettings& settings)
      : model_(model),
        train_(train),
        test_(test),
        batch_size_(settings.batch_size),
        optimizer_(OptimizerSettings::of(settings.fidelity, settings.optimizer, settings.weight_decay),
                   model.layout().infos) {}

  /// The rest of the epoch whose first batches are in `state`, then the test set.
  EpochResult run_epoch(std::span<const Index> order, const Schedule& schedule, TrainingState& state,
                        const Watch& watch) {
    const Index batches = (train_.rows + batch_size_ - 1) / batch_size_;
    for (Index b = static_cast<Index>(state.batches.size()); b < batches; ++b) {
      if (watch.asked_to_stop()) return {.end = EpochEnd::interrupted, .test = {}};
      const auto first = static_cast<std::size_t>(b * batch_size_);
      const auto count = std::min(static_cast<std::size_t>(batch_size_), order.size() - first);
      const auto rows = order.subspan(first, count);
      model_.gradient(batch_of(train_, rows), output_);
      state.batches.push_back(tally(train_, rows));
      state.batch_sequences.push_back(static_cast<Index>(count));
      if (!std::isfinite(output_.loss)) return {.end = EpochEnd::diverged, .test = {}};
      optimizer_.begin_step(schedule);
      model_.update(optimizer_);
      ++state.steps;
      watch.tell(b + 1, output_.loss);
    }
    return {.end = EpochEnd::complete, .test = measure(Half::test)};
  }

  /// The epoch's value of a whole set, in order.
  Metrics measure(Half half) {
    const tasks::CompactExamples& data = half == Half::train ? train_ : test_;
    EpochMean mean;
    std::vector<Index> rows;
    for (Index first = 0; first < data.rows; first += batch_size_) {
      rows.resize(static_cast<std::size_t>(std::min(batch_size_, data.rows - first)));
      std::iota(rows.begin(), rows.end(), first);
      model_.evaluate(batch_of(data, rows), output_);
      mean.add(tally(data, rows), static_cast<Index>(rows.size()));
    }
    return mean.mean();
  }

  void keep_best() { best_.assign(model_.parameters(), model_.parameters() + model_.layout().size); }
  void return_to_best() { std::copy(best_.begin(), best_.end(), model_.parameters()); }

  /// Everything is always at hand.
  bool is_time_to_save() const { return true; }
  typename RunStore<T>::View view(TrainingState& state, bool) {
    return {state, {model_.parameters(), best_.size()}, best_, optimizer_, true, false};
  }
  /// What was written to `view` is in place.
  void adopt() {}

private:
  auto batch_of(const tasks::CompactExamples& data, std::span<const Index> rows) const {
    return typename Model::BatchType{data.inputs.data(), data.targets.data(), data.columns, data.columns, rows};
  }

  Metrics tally(const tasks::CompactExamples& data, std::span<const Index> rows) const {
    BatchTally tally(model_.options().vocab_size);
    std::size_t at = 0;
    for (Index row : rows)
      for (const std::int32_t target : data.target_row(row)) {
        tally.add(output_.predictions[at], target, static_cast<double>(output_.negative_log_likelihood[at]));
        ++at;
      }
    return tally.metrics();
  }

  Model& model_;
  const tasks::CompactExamples& train_;
  const tasks::CompactExamples& test_;
  Index batch_size_;
  Optimizer<T> optimizer_;
  std::vector<T> best_;
  typename Model::Output output_;
};

}  // namespace mad::train
