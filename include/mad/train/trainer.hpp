// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Trains a model on the two halves of a dataset, as the reference does.
#pragma once

#include <mad/core/error.hpp>
#include <mad/random/generator.hpp>
#include <mad/tasks/dataset.hpp>
#include <mad/train/interrupt.hpp>
#include <mad/train/progress.hpp>
#include <mad/train/settings.hpp>
#include <mad/train/state.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace mad::train {

/// \throws UsageError if a setting is out of range.
inline void validate(const TrainSettings& s) {
  const auto at_least_one = [](const char* what, Index value) {
    if (value < 1)
      throw UsageError(std::string("training: ") + what + " is " + std::to_string(value) + "; it must be at least 1");
  };
  at_least_one("epochs", s.epochs);
  at_least_one("batch_size", s.batch_size);
  at_least_one("stop_patience", s.patience);
  if (!(s.weight_decay >= 0) || !std::isfinite(s.weight_decay))
    throw UsageError("training: weight_decay is " + std::to_string(s.weight_decay) +
                     "; it must be finite and at least 0");
}

/// Trains `model` (a cpu::Model, or one of another device with the same interface). The protocol is the reference's
/// (spec: constant or scheduled rate, reshuffled epochs, evaluation of the whole test set after each, early stop, final
/// numbers from the weights with the smallest test perplexity).
template <class Model, class T = float>
class Trainer {
public:
  Trainer(Model& model, const tasks::CompactExamples& train, const tasks::CompactExamples& test,
          const TrainSettings& settings, RunStore<T>* store = nullptr)
      : model_(model),
        train_(train),
        test_(test),
        settings_((validate(settings), settings)),
        store_(store),
        optimizer_(OptimizerSettings::of(settings.fidelity, settings.optimizer, settings.weight_decay),
                   model.layout().infos),
        schedule_({.kind = applied(settings.schedule, settings.fidelity),
                   .learning_rate = settings.learning_rate,
                   .min_learning_rate = settings.min_learning_rate,
                   .epochs = settings.epochs}),
        early_stop_(settings.early_stop ? settings.patience : settings.epochs) {
    if (train.rows < 1 || test.rows < 1)
      throw UsageError("training: the training set has " + std::to_string(train.rows) + " and the test set " +
                       std::to_string(test.rows) + " examples; each needs at least 1");
  }

  /// Runs until the end, from where the store left off if it kept something. `interrupt` is asked after each step.
  RunReport run(Progress* progress = nullptr, const InterruptGuard* interrupt = nullptr,
                const std::string& label = {}) {
    begin();
    RunReport report;
    if (progress != nullptr)
      progress->begin(static_cast<double>(state_.epochs.size()) / static_cast<double>(settings_.epochs));
    report.stop = pending_stop_;
    while (report.stop == StopReason::none && epoch() < settings_.epochs) {
      const auto start = Clock::now();
      if (!train_epoch(progress, interrupt, label)) {
        state_.seconds += since(start);
        return diverged_ ? record_divergence(report) : record_interruption(report);
      }
      const Metrics test = measure(test_, progress, label);
      finish_epoch(test, since(start));
      report.stop = pending_stop_;
      if (progress != nullptr) progress->end_epoch(progress_state(label, 0));
      if (report.stop == StopReason::not_finite) return record_divergence(report);
    }
    const auto start = Clock::now();
    restore_best();
    report.results.train = measure(train_, nullptr, label);
    report.results.test = measure(test_, nullptr, label);
    state_.seconds += since(start);
    fill(report, Outcome::finished);
    report.message = report.stop == StopReason::none ? "trained " + std::to_string(settings_.epochs) + " epochs"
                                                     : "stopped after " + std::to_string(state_.epochs.size()) +
                                                           " epochs: " + std::string(name(report.stop));
    if (store_ != nullptr) store_->ended(report);
    return report;
  }

private:
  using Clock = std::chrono::steady_clock;
  static double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  Index epoch() const { return static_cast<Index>(state_.epochs.size()); }
  Index batches_per_epoch() const { return (train_.rows + settings_.batch_size - 1) / settings_.batch_size; }

  typename RunStore<T>::View view() { return {state_, {model_.parameters(), best_.size()}, best_, optimizer_}; }

  void begin() {
    state_ = {};
    state_.shuffle = random::Generator(settings_.seed).state();
    diverged_ = false;
    pending_stop_ = StopReason::none;
    best_.assign(model_.parameters(), model_.parameters() + model_.layout().size);
    if (store_ == nullptr || !store_->restore(view())) return;
    schedule_.restore(state_.schedule);
    early_stop_.restore(state_.early_stop);
    // An epoch that ended the run left its reason in the counts; asking again gives the same answer.
    if (!state_.epochs.empty() && state_.batches.empty())
      pending_stop_ = early_stop_.last_answer(state_.epochs.back().test.accuracy);
  }

  /// False if the epoch was not completed.
  bool train_epoch(Progress* progress, const InterruptGuard* interrupt, const std::string& label) {
    random::Generator generator(state_.shuffle);
    std::vector<Index> order(static_cast<std::size_t>(train_.rows));
    std::iota(order.begin(), order.end(), Index{0});
    generator.shuffle(std::span<Index>(order));
    for (Index b = static_cast<Index>(state_.batches.size()); b < batches_per_epoch(); ++b) {
      if (interrupt != nullptr && interrupt->requested()) return false;
      const auto first = static_cast<std::size_t>(b * settings_.batch_size);
      const auto count = std::min(static_cast<std::size_t>(settings_.batch_size), order.size() - first);
      const auto rows = std::span<const Index>(order).subspan(first, count);
      model_.gradient(batch_of(train_, rows), output_);
      state_.batches.push_back(tally(train_, rows));
      state_.batch_sequences.push_back(static_cast<Index>(count));
      if (!std::isfinite(output_.loss)) {
        diverged_ = true;
        return false;
      }
      optimizer_.begin_step(schedule_);
      model_.update(optimizer_);
      ++state_.steps;
      last_loss_ = output_.loss;
      if (progress != nullptr) progress->update(progress_state(label, b + 1));
    }
    state_.shuffle = generator.state();
    return true;
  }

  void finish_epoch(const Metrics& test, double seconds) {
    EpochMean train;
    for (std::size_t i = 0; i < state_.batches.size(); ++i) train.add(state_.batches[i], state_.batch_sequences[i]);
    state_.epochs.push_back({train.mean(), test, schedule_.rate(), seconds});
    state_.seconds += seconds;
    const Metrics last = state_.batches.back();
    state_.batches.clear();
    state_.batch_sequences.clear();
    schedule_.end_epoch(test.loss);
    pending_stop_ = early_stop_.end_epoch(test.accuracy);
    if (std::isfinite(test.loss) == false) pending_stop_ = StopReason::not_finite;
    state_.schedule = schedule_.state();
    state_.early_stop = early_stop_.state();
    const bool better = test.perplexity < state_.best_perplexity;
    if (better) {
      state_.best_perplexity = test.perplexity;
      state_.best_epoch = epoch() - 1;
      best_.assign(model_.parameters(), model_.parameters() + model_.layout().size);
    }
    if (store_ != nullptr) store_->end_epoch(view(), better, last);
  }

  void restore_best() {
    if (state_.best_epoch >= 0) std::copy(best_.begin(), best_.end(), model_.parameters());
  }

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

  /// The epoch's value of a whole set, in order.
  Metrics measure(const tasks::CompactExamples& data, Progress*, const std::string&) {
    EpochMean mean;
    std::vector<Index> rows;
    for (Index first = 0; first < data.rows; first += settings_.batch_size) {
      rows.resize(static_cast<std::size_t>(std::min(settings_.batch_size, data.rows - first)));
      std::iota(rows.begin(), rows.end(), first);
      model_.evaluate(batch_of(data, rows), output_);
      mean.add(tally(data, rows), static_cast<Index>(rows.size()));
    }
    return mean.mean();
  }

  ProgressState progress_state(const std::string& label, Index batch) const {
    ProgressState p;
    p.label = label;
    p.epoch = epoch();
    p.epochs = pending_stop_ == StopReason::none ? settings_.epochs : epoch();
    p.batch = batch;
    p.batches = batches_per_epoch();
    p.loss = last_loss_;
    if (!state_.epochs.empty()) p.accuracy = state_.epochs.back().test.accuracy;
    return p;
  }

  void fill(RunReport& report, Outcome outcome) const {
    report.outcome = outcome;
    report.epochs = state_.epochs;
    report.best_epoch = state_.best_epoch;
    report.steps = state_.steps;
    report.seconds = state_.seconds;
  }

  RunReport record_interruption(RunReport& report) {
    fill(report, Outcome::interrupted);
    report.message = "interrupted in epoch " + std::to_string(epoch() + 1) + " of " + std::to_string(settings_.epochs);
    if (store_ != nullptr) report.message += store_->interrupted(view(), report);
    return report;
  }

  RunReport record_divergence(RunReport& report) {
    fill(report, Outcome::diverged);
    report.stop = StopReason::not_finite;
    report.message = "the loss is not a finite number after " + std::to_string(state_.steps) + " steps, in epoch " +
                     std::to_string(diverged_ ? epoch() + 1 : epoch()) + ". Try a smaller --lr.";
    const double nan = std::numeric_limits<double>::quiet_NaN();
    report.results.train = report.results.test = {nan, nan, nan, nan};
    if (store_ != nullptr) store_->ended(report);
    return report;
  }

  Model& model_;
  const tasks::CompactExamples& train_;
  const tasks::CompactExamples& test_;
  TrainSettings settings_;
  RunStore<T>* store_;
  Optimizer<T> optimizer_;
  Schedule schedule_;
  EarlyStop early_stop_;
  TrainingState state_;
  std::vector<T> best_;
  typename Model::Output output_;
  double last_loss_ = std::numeric_limits<double>::quiet_NaN();
  StopReason pending_stop_ = StopReason::none;
  bool diverged_ = false;
};

}  // namespace mad::train
