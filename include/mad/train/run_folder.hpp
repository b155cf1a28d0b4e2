// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run in a folder: checkpoints, logs/metrics.csv, results.csv and run.json.
#pragma once

#include <mad/core/version.hpp>
#include <mad/models/parameter_info.hpp>
#include <mad/train/checkpoint.hpp>
#include <mad/train/results.hpp>
#include <mad/train/settings.hpp>
#include <mad/train/state.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mad::train {

/// Where a run keeps its files, and what it says of itself.
struct RunFiles {
  std::filesystem::path folder;
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

/// The files of one run. If the folder holds a checkpoint of the same run, training goes on from it.
template <class T>
class RunFolder : public RunStore<T> {
public:
  using View = typename RunStore<T>::View;

  RunFolder(RunFiles files, const TrainSettings& settings, std::span<const ParameterInfo> infos)
      : files_(std::move(files)), settings_(settings), infos_(infos.begin(), infos.end()) {}

  /// \throws Error naming the file if the checkpoint is damaged or belongs to a run with other settings.
  bool restore(const View& run) override {
    if (!std::filesystem::exists(last_file())) {
      log_.emplace(MetricsLog::create(metrics_file(files_.folder)));
      write_record(record_file(files_.folder), record({}, "running"));
      return false;
    }
    run.state = load_checkpoint<T>(last_file(), infos_, run.parameters.data(), run.optimizer, identity());
    if (run.state.best_epoch >= 0 && std::filesystem::exists(best_file()))
      load_parameters(Safetensors::read(best_file()), infos_, run.best.data());
    log_.emplace(MetricsLog::resume(metrics_file(files_.folder), static_cast<Index>(run.state.epochs.size())));
    return true;
  }

  void end_epoch(const View& run, bool better, const Metrics& last_batch) override {
    if (run.current) save(run, better);
    const EpochRecord& epoch = run.state.epochs.back();
    const Index number = static_cast<Index>(run.state.epochs.size()) - 1;
    log_->add({.epoch = number, .step = run.state.steps - 1, .test_epoch = epoch.test});
    log_->add({.epoch = number, .step = run.state.steps - 1, .train_epoch = epoch.train, .train_step = last_batch});
  }

  std::string interrupted(const View& run, const RunReport& report) override {
    save(run, run.new_best);
    write_record(record_file(files_.folder), record(report));
    return "; saved to '" + last_file().string() + "'. The same command goes on from there.";
  }

  void ended(const RunReport& report) override {
    if (report.outcome == Outcome::finished) write_results(results_file(files_.folder), report.results);
    write_record(record_file(files_.folder), record(report));
    // A run that diverged starts over when it is asked for again.
    if (report.outcome == Outcome::diverged) std::filesystem::remove(last_file());
  }

private:
  std::filesystem::path last_file() const { return checkpoint_folder(files_.folder) / "last.safetensors"; }
  std::filesystem::path best_file() const { return checkpoint_folder(files_.folder) / "best.safetensors"; }

  /// What a checkpoint must agree with to be continued.
  std::string identity() const {
    nlohmann::ordered_json j = files_.description;
    j["training"] = to_json(settings_);
    return j.dump();
  }

  void save(const View& run, bool better) const {
    if (better) save_parameters<T>(best_file(), infos_, run.best.data(), identity());
    save_checkpoint<T>(last_file(), infos_, run.parameters.data(), run.optimizer, run.state, identity());
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

  RunFiles files_;
  TrainSettings settings_;
  std::vector<ParameterInfo> infos_;
  std::optional<MetricsLog> log_;
};

}  // namespace mad::train
