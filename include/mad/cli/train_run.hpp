// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One training of one model on one task, from its data to its record: what `mad train` does once, a sweep often.
#pragma once

#include <mad/cli/device_choice.hpp>
#include <mad/cli/model_choice.hpp>
#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/cpu/model.hpp>
#include <mad/protocol/names.hpp>
#include <mad/tasks/dataset_files.hpp>
#include <mad/tasks/setting_json.hpp>
#include <mad/train/run_folder.hpp>
#include <mad/train/trainer.hpp>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

namespace mad::cli {

/// A training, fully decided.
struct TrainRun {
  tasks::Task task;
  tasks::Setting setting;
  ModelPlan model;
  train::TrainSettings training;
  DeviceChoice device;
  std::filesystem::path folder;  ///< empty: nothing is written

  /// What determines the run besides `training`; a finished or interrupted run is taken up only if it is equal.
  nlohmann::ordered_json description() const {
    nlohmann::ordered_json j;
    j["task"] = tasks::to_json(setting);
    j["task_version"] = task.version;
    j["model"] = model.to_json();
    j["number_type"] = "float32";
    device.describe(j);
    return j;
  }

  /// The model as a device is asked for it.
  train::ModelRequest request() const {
    train::ModelRequest r = train::request_for(model.architecture, model.options, training.seed);
    r.micro_batch = device.micro_batch;
    return r;
  }
};

/// Checks, without touching the device, that this program can train the run on it. \throws UsageError if not.
inline void require_possible(const TrainRun& run) {
  require_possible(run.device);
  if (run.device.cuda) train::require_accelerator().check(run.request(), run.device.precision());
}

/// What runs are trained on. Made before any work, so that a device that cannot be used is found out first.
class Workplace {
public:
  /// \throws UsageError, one sentence, if the device cannot be used.
  Workplace(const DeviceChoice& choice, int threads) {
    if (choice.cuda) {
      device_ = train::require_accelerator().open(choice.index);
      precision_ = choice.precision();
    } else {
      threads_.emplace(threads);
    }
  }

  /// Threads of the CPU; only where it is what is trained on.
  cpu::Threads& threads() { return *threads_; }
  /// For a person: `2 threads`, `cuda:0 (NVIDIA H200), bf16`.
  std::string text() const {
    if (!threads_) return device_.device + " (" + device_.name + "), " + std::string(train::name(precision_));
    return std::to_string(threads_->count()) + (threads_->count() == 1 ? " thread" : " threads");
  }
  /// Where a run was made; recorded, and not compared.
  nlohmann::ordered_json environment() const {
    nlohmann::ordered_json j;
    j["revision"] = revision();
#ifdef __clang__
    j["compiler"] = "clang " __clang_version__;
#else
    j["compiler"] = "g++ " __VERSION__;
#endif
    if (threads_) {
      j["device"] = "cpu";
      j["instruction_sets"] = Eigen::SimdInstructionSetsInUse();
      j["threads"] = threads_->count();
    } else {
      j["device"] = device_.device;
      j["device_name"] = device_.name;
      j["precision"] = train::name(precision_);
      j["driver"] = device_.driver;
      j["cuda"] = device_.runtime;
    }
    return j;
  }

private:
  std::optional<cpu::Threads> threads_;
  train::DeviceFacts device_;
  train::Precision precision_ = train::Precision::fp32;
};

namespace detail {

/// The first value that differs, such as `model.dim is 128, must be 64`; empty if none does.
inline std::string first_difference(const nlohmann::ordered_json& found, const nlohmann::ordered_json& expected,
                                    const std::string& path = {}) {
  for (const auto& [key, value] : expected.items()) {
    const std::string name = path.empty() ? key : path + "." + key;
    if (!found.is_object() || !found.contains(key)) return name + " is missing, must be " + value.dump();
    const nlohmann::ordered_json& other = found.at(key);
    if (value.is_object()) {
      const std::string inside = first_difference(other, value, name);
      if (!inside.empty()) return inside;
    } else if (other != value) {
      return name + " is " + other.dump() + ", must be " + value.dump();
    }
  }
  return "";
}

}  // namespace detail

/// What only some runs are described by: without it in one of two descriptions, the runs differ too.
inline std::string difference_in_choices(const nlohmann::ordered_json& found, const nlohmann::ordered_json& expected) {
  for (const char* key : {"device", "precision", "micro_batch"})
    if (found.is_object() && found.contains(key) && !expected.contains(key))
      return std::string(key) + " is " + found.at(key).dump() + ", must not be given";
  return "";
}

/// The results of a run that is finished: its folder holds `results.csv`, ours or the reference's. Nothing if there is
/// none.
/// \throws Error if the file is damaged; UsageError if the folder's `run.json` says that the results are another run's.
inline std::optional<train::Results> finished_results(const TrainRun& run) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (run.folder.empty() || !fs::exists(train::results_file(run.folder), ignored)) return std::nullopt;
  const train::Results results = train::read_results(train::results_file(run.folder));
  const fs::path record = train::record_file(run.folder);
  if (!fs::exists(record, ignored)) return results;
  nlohmann::ordered_json expected = run.description();
  expected["training"] = train::to_json(run.training);
  // Through text and back, so that both sides have numbers of the same kinds.
  const nlohmann::ordered_json found = train::read_record(record);
  std::string difference = detail::first_difference(found, nlohmann::ordered_json::parse(expected.dump()));
  if (difference.empty()) difference = difference_in_choices(found, expected);
  if (!difference.empty())
    throw UsageError("the folder " + mad::detail::quoted(run.folder) +
                     " holds the results of another run: in run.json " + difference +
                     ".\nGive another --log-path or --log-base-path, or move the folder away.");
  return results;
}

/// Checks, without creating anything, that `folder` is one that can be written to, or can be made.
/// \throws UsageError if not.
inline void require_possible_folder(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  fs::path nearest = fs::absolute(folder, ignored);
  while (nearest.has_relative_path() && !fs::exists(nearest, ignored)) nearest = nearest.parent_path();
  const bool is_folder = fs::is_directory(nearest, ignored);
  if (is_folder && ::access(nearest.c_str(), W_OK | X_OK) == 0) return;
  throw UsageError(
      "the folder " + mad::detail::quoted(folder) + " cannot be written to: " + mad::detail::quoted(nearest) +
      (is_folder ? " is not writable" : " is not a folder") + ".\nChoose another folder or correct its permissions.");
}

/// The data of a setting, in the form that models take. \param data_path where they are kept; empty: in memory only
inline tasks::StoredDataset data_for(const tasks::Task& task, const tasks::Setting& setting,
                                     const std::filesystem::path& data_path) {
  if (data_path.empty()) return {.data = task.generate(setting), .folder = {}};
  return tasks::load_or_generate(task, setting, data_path);
}

/// Trains, or goes on where an interrupted session stopped. The seed of `run.training` determines the initial weights
/// too. On a device, several threads may train a run each at the same time.
/// \throws UsageError, before any work, if the folder cannot be written to; Error for a damaged checkpoint.
inline train::RunReport train_model(const TrainRun& run, const tasks::Dataset& data, Workplace& workplace,
                                    train::Progress* progress, const train::InterruptGuard* interrupt,
                                    const std::string& label) {
  if (!run.folder.empty()) require_writable_folder(run.folder);
  const tasks::CompactExamples train_set = tasks::compact(data.train);
  const tasks::CompactExamples test_set = tasks::compact(data.test);
  const auto train_it = [&]<class Model>(Model& model) {
    train::RunFolder<float> folder({run.folder, run.description(), workplace.environment()}, run.training,
                                   model.layout().infos);
    train::Trainer<Model> trainer(model, train_set, test_set, run.training, run.folder.empty() ? nullptr : &folder);
    return trainer.run(progress, interrupt, label);
  };
  if (run.device.cuda) {
    const auto model = train::require_accelerator().make(run.request(), run.device.precision(), run.device.index);
    return train_it(*model);
  }
  cpu::Model<float> model(run.model.architecture, run.model.options, run.training.seed, workplace.threads());
  return train_it(model);
}

/// The reference's name for the folder of a run. What the reference cannot vary, or does not write, follows as further
/// pairs where it differs from the default, so that such runs do not meet in one folder.
inline std::string run_folder_name(const TrainRun& run, int usual_width, Norm usual_norm, Index usual_length) {
  protocol::RunName name;
  name.setting = run.setting;
  name.task_shorthand = run.task.shorthand;
  name.batch_size = run.training.batch_size;
  name.epochs = run.training.epochs;
  name.learning_rate = run.training.learning_rate;
  name.weight_decay = run.training.weight_decay;
  name.optimizer = train::name(run.training.optimizer);
  name.scheduler = train::name(run.training.schedule);
  name.model = run.model.id;
  const auto differs = [&](bool it_does, const char* key, std::string value) {
    if (it_does) name.extra.emplace_back(key, std::move(value));
  };
  const cpu::Architecture<float>& a = run.model.architecture;
  const ModelOptions& o = run.model.options;
  const train::TrainSettings usual;
  const bool encoder = a.backbone == Backbone::auto_encoder;
  differs(!run.setting.multi_query && run.task.uses("multi_query"), "query", "single");
  differs(a.width != usual_width, "d", std::to_string(a.width));
  differs(a.norm != usual_norm, "norm", std::string(cli::name(a.norm)));
  differs(encoder && !run.task.auto_encoder, "bb", std::string(cli::name(a.backbone)));
  differs(!encoder && o.max_length != usual_length, "ml", std::to_string(o.max_length));
  differs(o.positions != Positions::none, "pos", std::string(cli::name(o.positions)));
  differs(encoder && o.pooling != Pooling::last, "pool", std::string(cli::name(o.pooling)));
  differs(run.training.early_stop, "patience", std::to_string(run.training.patience));
  differs(run.training.min_learning_rate != usual.min_learning_rate, "minlr",
          message({run.training.min_learning_rate}));
  differs(run.device.cuda, "dev", "cuda");
  differs(run.device.cuda, "prec", std::string(train::name(run.device.precision())));
  differs(run.device.micro_batch > 0, "mb", std::to_string(run.device.micro_batch));
  differs(run.training.fidelity != usual.fidelity, "fidelity", std::string(train::name(run.training.fidelity)));
  return protocol::log_directory_name(name);
}

}  // namespace mad::cli
