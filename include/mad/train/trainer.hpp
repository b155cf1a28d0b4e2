// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Trains a model on the two halves of a dataset, as the reference does.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/random/generator.hpp>
#include <mad/tasks/dataset.hpp>
#include <mad/train/device_loop.hpp>
#include <mad/train/epoch.hpp>
#include <mad/train/host_loop.hpp>
#include <mad/train/progress.hpp>
#include <mad/train/settings.hpp>
#include <mad/train/state.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace mad::train {

/// \throws UsageError if a setting is out of range.
[[gnu::cold]] inline void validate(const TrainSettings& s) {
  const auto at_least_one = [](const char* what, Index value) {
    if (value < 1) throw UsageError(message({"training: ", what, " is ", value, "; it must be at least 1"}));
  };
  at_least_one("epochs", s.epochs);
  at_least_one("batch_size", s.batch_size);
  at_least_one("stop_patience", s.patience);
  if (!(s.weight_decay >= 0) || !std::isfinite(s.weight_decay))
    throw UsageError(
        message({"training: weight_decay is ", std::to_string(s.weight_decay), "; it must be finite and at least 0"}));
}

/// Trains `model`: a cpu::Model (or one with the same interface), batch by batch, or a DeviceModel, an epoch at a time.
/// The protocol is the reference's (spec: constant or scheduled rate, reshuffled epochs, evaluation of the whole test
/// set after each, early stop, final numbers from the weights with the smallest test perplexity).
template <class Model, class T = float>
class Trainer {
public:
  Trainer(Model& model, const tasks::CompactExamples& train, const tasks::CompactExamples& test,
          const TrainSettings& settings, RunStore<T>* store = nullptr)
      : settings_((validate(settings), require_examples(train, test), settings)),
        store_(store),
        examples_(train.rows),
        schedule_({.kind = applied(settings.schedule, settings.fidelity),
                   .learning_rate = settings.learning_rate,
                   .min_learning_rate = settings.min_learning_rate,
                   .epochs = settings.epochs}),
        early_stop_(settings.early_stop ? settings.patience : settings.epochs),
        loop_(model, train, test, settings) {}

  /// Runs until the end, from where the store left off if it kept something. `interrupt` is asked after each step.
  RunReport run(Progress* progress = nullptr, const InterruptGuard* interrupt = nullptr,
                const std::string& label = {}) {
    begin();
    RunReport report;
    if (progress != nullptr)
      progress->begin(static_cast<double>(state_.epochs.size()) / static_cast<double>(settings_.epochs));
    report.stop = pending_stop_;
    const auto tell = [&](Index batches, double loss) {
      last_loss_ = loss;
      if (progress != nullptr) progress->update(progress_state(label, batches));
    };
    const Watch watch{interrupt, tell};
    while (report.stop == StopReason::none && epoch() < settings_.epochs) {
      const auto start = Clock::now();
      random::Generator generator(state_.shuffle);
      std::vector<Index> order(static_cast<std::size_t>(examples_));
      std::iota(order.begin(), order.end(), Index{0});
      generator.shuffle(std::span<Index>(order));
      const EpochResult result = loop_.run_epoch(order, schedule_, state_, watch);
      if (result.end != EpochEnd::complete) {
        state_.seconds += since(start);
        return result.end == EpochEnd::diverged ? record_divergence(report, epoch() + 1) : record_interruption(report);
      }
      state_.shuffle = generator.state();
      finish_epoch(result.test, since(start));
      report.stop = pending_stop_;
      if (progress != nullptr) progress->end_epoch(progress_state(label, 0));
      if (report.stop == StopReason::not_finite) return record_divergence(report, epoch());
    }
    const auto start = Clock::now();
    if (state_.best_epoch >= 0) loop_.return_to_best();
    report.results.train = loop_.measure(Half::train);
    report.results.test = loop_.measure(Half::test);
    state_.seconds += since(start);
    fill(report, Outcome::finished);
    report.message = report.stop == StopReason::none
                         ? message({"trained ", settings_.epochs, " epochs"})
                         : message({"stopped after ", state_.epochs.size(), " epochs: ", name(report.stop)});
    if (store_ != nullptr) store_->ended(report);
    return report;
  }

private:
  using Loop = std::conditional_t<std::is_base_of_v<DeviceModel, Model>, DeviceLoop, HostLoop<Model, T>>;
  using Clock = std::chrono::steady_clock;
  static double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  static void require_examples(const tasks::CompactExamples& train, const tasks::CompactExamples& test) {
    if (train.rows < 1 || test.rows < 1)
      throw UsageError(message({"training: the training set has ", train.rows, " and the test set ", test.rows,
                                " examples; each needs at least 1"}));
  }

  Index epoch() const { return static_cast<Index>(state_.epochs.size()); }
  Index batches_per_epoch() const { return (examples_ + settings_.batch_size - 1) / settings_.batch_size; }

  typename RunStore<T>::View view(bool current) {
    auto view = loop_.view(state_, current);
    view.new_best = new_best_;
    return view;
  }

  void begin() {
    state_ = {};
    state_.shuffle = random::Generator(settings_.seed).state();
    pending_stop_ = StopReason::none;
    new_best_ = false;
    loop_.keep_best();
    if (store_ == nullptr || !store_->restore(view(true))) return;
    loop_.adopt();
    schedule_.restore(state_.schedule);
    early_stop_.restore(state_.early_stop);
    // An epoch that ended the run left its reason in the counts; asking again gives the same answer.
    if (!state_.epochs.empty() && state_.batches.empty())
      pending_stop_ = early_stop_.last_answer(state_.epochs.back().test.accuracy);
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
    if (test.perplexity < state_.best_perplexity) {
      state_.best_perplexity = test.perplexity;
      state_.best_epoch = epoch() - 1;
      loop_.keep_best();
      new_best_ = true;
    }
    if (store_ == nullptr) return;
    const bool save = pending_stop_ != StopReason::none || epoch() == settings_.epochs || loop_.is_time_to_save();
    store_->end_epoch(view(save), new_best_, last);
    if (save) new_best_ = false;
  }

  [[gnu::cold]] ProgressState progress_state(const std::string& label, Index batch) const {
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

  [[gnu::cold]] void fill(RunReport& report, Outcome outcome) const {
    report.outcome = outcome;
    report.epochs = state_.epochs;
    report.best_epoch = state_.best_epoch;
    report.steps = state_.steps;
    report.seconds = state_.seconds;
  }

  [[gnu::cold]] RunReport record_interruption(RunReport& report) {
    fill(report, Outcome::interrupted);
    report.message = message({"interrupted in epoch ", epoch() + 1, " of ", settings_.epochs});
    if (store_ != nullptr) report.message += store_->interrupted(view(true), report);
    return report;
  }

  [[gnu::cold]] RunReport record_divergence(RunReport& report, Index in_epoch) {
    fill(report, Outcome::diverged);
    report.stop = StopReason::not_finite;
    report.message = message({"the loss is not a finite number after ", state_.steps, " steps, in epoch ", in_epoch,
                              ". Try a smaller --lr."});
    const double nan = std::numeric_limits<double>::quiet_NaN();
    report.results.train = report.results.test = {nan, nan, nan, nan};
    if (store_ != nullptr) store_->ended(report);
    return report;
  }

  TrainSettings settings_;
  RunStore<T>* store_;
  Index examples_;  ///< of the training set
  Schedule schedule_;
  EarlyStop early_stop_;
  Loop loop_;
  TrainingState state_;
  double last_loss_ = std::numeric_limits<double>::quiet_NaN();
  StopReason pending_stop_ = StopReason::none;
  bool new_best_ = false;  ///< the best parameters are not yet in the store
};

}  // namespace mad::train
