// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Trains a model on the two halves of a dataset, as the reference does, and leaves everything in a folder.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/files.hpp>
#include <mad/core/version.hpp>
#include <mad/random/generator.hpp>
#include <mad/tasks/dataset.hpp>
#include <mad/train/checkpoint.hpp>
#include <mad/train/interrupt.hpp>
#include <mad/train/progress.hpp>
#include <mad/train/results.hpp>
#include <mad/train/settings.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mad::train {

/// How a run ended.
enum class Outcome {
  finished,     ///< all epochs, or stopped early by a rule
  interrupted,  ///< by a signal; saved, can be resumed
  diverged,     ///< the loss or the accuracy was no finite number
};

constexpr std::string_view name(Outcome outcome) {
  switch (outcome) {
    case Outcome::finished:
      return "finished";
    case Outcome::interrupted:
      return "interrupted";
    case Outcome::diverged:
      return "diverged";
  }
  return "";
}

/// What came of a run.
struct RunReport {
  Outcome outcome = Outcome::finished;
  StopReason stop = StopReason::none;
  Results results;                  ///< of the weights with the smallest test perplexity
  std::vector<EpochRecord> epochs;  ///< learning curve
  Index best_epoch = -1;
  Index steps = 0;
  double seconds = 0;
  std::string message;  ///< for a person: why it stopped, how to go on
};

/// Where a run keeps its files, and what it says of itself.
struct RunFiles {
  std::filesystem::path folder;        ///< empty: nothing is written
  nlohmann::ordered_json description;  ///< model, task, data: what determines the run besides its TrainSettings
  nlohmann::ordered_json environment;  ///< revision, compiler, device, threads: recorded, but not compared on resume
};

inline nlohmann::ordered_json to_json(const TrainSettings& s) {
  nlohmann::ordered_json j;
  j["epochs"] = s.epochs;
  j["batch_size"] = s.batch_size;
  j["lr"] = s.learning_rate;
  j["weight_decay"] = s.weight_decay;
  j["min_lr"] = s.min_learning_rate;
  j["optimizer"] = name(s.optimizer);
  j["scheduler"] = name(s.schedule);
  j["scheduler_applied"] = name(applied(s.schedule, s.fidelity));
  j["early_stop"] = s.early_stop;
  j["stop_patience"] = s.patience;
  j["seed"] = s.seed;
  j["fidelity"] = name(s.fidelity);
  return j;
}

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
          const TrainSettings& settings, RunFiles files = {})
      : model_(model),
        train_(train),
        test_(test),
        settings_((validate(settings), settings)),
        files_(std::move(files)),
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

  /// Runs until the end, from the last checkpoint in the folder if there is one. `interrupt` is asked after each step.
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
    if (writes()) {
      write_results(results_file(files_.folder), report.results);
      write_record(record_file(files_.folder), record(report));
    }
    return report;
  }

private:
  using Clock = std::chrono::steady_clock;
  static double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  bool writes() const { return !files_.folder.empty(); }
  Index epoch() const { return static_cast<Index>(state_.epochs.size()); }
  std::filesystem::path last_file() const { return checkpoint_folder(files_.folder) / "last.safetensors"; }
  std::filesystem::path best_file() const { return checkpoint_folder(files_.folder) / "best.safetensors"; }
  Index batches_per_epoch() const { return (train_.rows + settings_.batch_size - 1) / settings_.batch_size; }

  /// What a checkpoint must agree with to be continued.
  std::string identity() const {
    nlohmann::ordered_json j = files_.description;
    j["training"] = to_json(settings_);
    return j.dump();
  }

  void begin() {
    state_ = {};
    state_.shuffle = random::Generator(settings_.seed).state();
    diverged_ = false;
    pending_stop_ = StopReason::none;
    best_.assign(model_.parameters(), model_.parameters() + model_.layout().size);
    if (!writes()) return;
    if (std::filesystem::exists(last_file())) {
      state_ = load_checkpoint<T>(last_file(), model_.layout().infos, model_.parameters(), optimizer_, identity());
      schedule_.restore(state_.schedule);
      early_stop_.restore(state_.early_stop);
      // An epoch that ended the run left its reason in the counts; asking again gives the same answer.
      if (!state_.epochs.empty() && state_.batches.empty())
        pending_stop_ = early_stop_.last_answer(state_.epochs.back().test.accuracy);
      if (state_.best_epoch >= 0 && std::filesystem::exists(best_file())) {
        const Safetensors file = Safetensors::read(best_file());
        load_parameters(file, std::span<const ParameterInfo>(model_.layout().infos), best_.data());
      }
      log_.emplace(MetricsLog::resume(metrics_file(files_.folder), epoch()));
    } else {
      log_.emplace(MetricsLog::create(metrics_file(files_.folder)));
      write_record(record_file(files_.folder), record({}, "running"));
    }
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
    if (!writes()) return;
    if (better) save_parameters<T>(best_file(), model_.layout().infos, best_.data(), identity());
    save_checkpoint<T>(last_file(), model_.layout().infos, model_.parameters(), optimizer_, state_, identity());
    log_->add({.epoch = epoch() - 1, .step = state_.steps - 1, .test_epoch = test});
    log_->add({.epoch = epoch() - 1,
               .step = state_.steps - 1,
               .train_epoch = state_.epochs.back().train,
               .train_step = last});
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
    if (writes()) {
      save_checkpoint<T>(last_file(), model_.layout().infos, model_.parameters(), optimizer_, state_, identity());
      write_record(record_file(files_.folder), record(report));
      report.message += "; saved to '" + last_file().string() + "'. The same command goes on from there.";
    }
    return report;
  }

  RunReport record_divergence(RunReport& report) {
    fill(report, Outcome::diverged);
    report.stop = StopReason::not_finite;
    report.message = "the loss is not a finite number after " + std::to_string(state_.steps) + " steps, in epoch " +
                     std::to_string(diverged_ ? epoch() + 1 : epoch()) + ". Try a smaller --lr.";
    const double nan = std::numeric_limits<double>::quiet_NaN();
    report.results.train = report.results.test = {nan, nan, nan, nan};
    if (writes()) {
      write_record(record_file(files_.folder), record(report));
      std::filesystem::remove(last_file());
    }
    return report;
  }

  nlohmann::ordered_json record(const RunReport& report, const char* status = nullptr) const {
    nlohmann::ordered_json j;
    j["mad"] = version;
    j["status"] = status != nullptr ? std::string(status) : std::string(name(report.outcome));
    j["fidelity"] = name(settings_.fidelity);
    for (const auto& [key, value] : files_.description.items()) j[key] = value;
    j["training"] = to_json(settings_);
    j["environment"] = files_.environment;
    if (status == nullptr) {
      j["stop"] = name(report.stop);
      j["message"] = report.message;
      j["epochs_trained"] = report.epochs.size();
      j["best_epoch"] = report.best_epoch;
      j["steps"] = report.steps;
      j["seconds"] = report.seconds;
      if (report.outcome == Outcome::finished) {
        const auto metrics = [](const Metrics& m) {
          nlohmann::ordered_json o;
          o["accuracy"] = m.accuracy;
          o["micro_accuracy"] = m.micro_accuracy;
          o["perplexity"] = m.perplexity;
          o["loss"] = m.loss;
          return o;
        };
        j["train"] = metrics(report.results.train);
        j["test"] = metrics(report.results.test);
      }
    }
    return j;
  }

  Model& model_;
  const tasks::CompactExamples& train_;
  const tasks::CompactExamples& test_;
  TrainSettings settings_;
  RunFiles files_;
  Optimizer<T> optimizer_;
  Schedule schedule_;
  EarlyStop early_stop_;
  TrainingState state_;
  std::optional<MetricsLog> log_;
  std::vector<T> best_;
  typename Model::Output output_;
  double last_loss_ = std::numeric_limits<double>::quiet_NaN();
  StopReason pending_stop_ = StopReason::none;
  bool diverged_ = false;
};

}  // namespace mad::train
