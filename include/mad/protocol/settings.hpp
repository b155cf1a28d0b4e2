// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the MAD benchmark trains: six tasks, 66 settings, 396 runs, in the reference's order.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/shape.hpp>
#include <mad/tasks/path_names.hpp>
#include <mad/tasks/registry.hpp>
#include <mad/tasks/setting.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mad::protocol {

/// One point of the grid that every setting is trained on.
struct GridPoint {
  double learning_rate;
  double weight_decay;
};

inline constexpr std::array<GridPoint, 6> grid{
    {{1e-4, 0.0}, {1e-4, 0.1}, {5e-4, 0.0}, {5e-4, 0.1}, {1e-3, 0.0}, {1e-3, 0.1}}};

/// One difficulty of a task: its baseline, or the baseline with one field changed.
struct BenchmarkSetting {
  tasks::Setting setting;
  std::string changed;  ///< name of the field that differs from the baseline; empty for the baseline itself

  /// `baseline`, or what was changed, such as `vocab_size 32` or `frac_noise 0.4`.
  std::string label() const {
    if (changed.empty()) return "baseline";
    std::string text = changed;
    tasks::for_each_field(setting, [&](tasks::Field field, const auto& value) {
      if (field.name != changed) return;
      std::string shown = tasks::path_value(value);
      for (char& character : shown) {
        if (character == '#') character = '.';
      }
      text += " " + shown;
    });
    return text;
  }
};

/// One training of the benchmark: a setting at a grid point.
struct BenchmarkRun {
  Index index;    ///< 0 to 395, the order of training
  Index setting;  ///< place in `benchmark_settings()`
  Index point;    ///< place in `grid`
};

namespace detail {

/// The settings of a task, baseline first.
class Variations {
public:
  explicit Variations(std::string_view task) : settings_{{tasks::find_task(task).baseline, ""}} {}

  template <class Value, class... Values>
  Variations&& change(std::string_view name, Value tasks::Setting::*field, Values... values) && {
    const auto add = [&](Value value) {
      BenchmarkSetting variation = settings_.front();
      variation.setting.*field = value;
      variation.changed = name;
      settings_.push_back(std::move(variation));
    };
    (add(static_cast<Value>(values)), ...);
    return std::move(*this);
  }
  template <class... Values>
  Variations&& vocab_size(Values... values) && {
    return std::move(*this).change("vocab_size", &tasks::Setting::vocab_size, values...);
  }
  template <class... Values>
  Variations&& seq_len(Values... values) && {
    return std::move(*this).change("seq_len", &tasks::Setting::seq_len, values...);
  }
  /// The four smaller training sets, the same for every task that has them.
  Variations&& fewer_examples() && {
    return std::move(*this).change("num_train_examples", &tasks::Setting::num_train_examples, 6400, 3200, 1600, 800);
  }

  std::vector<BenchmarkSetting> settings() && { return std::move(settings_); }

private:
  std::vector<BenchmarkSetting> settings_;
};

}  // namespace detail

/// The settings of one task of the benchmark, in the order of training.
/// \throws UsageError if the task is not part of the benchmark.
inline std::vector<BenchmarkSetting> benchmark_settings(std::string_view task) {
  using detail::Variations;
  using tasks::Setting;
  if (task == "in-context-recall" || task == "fuzzy-in-context-recall") {
    return Variations(task).vocab_size(32, 64, 128).seq_len(256, 512, 1024).fewer_examples().settings();
  }
  if (task == "noisy-in-context-recall") {
    return Variations(task)
        .vocab_size(48, 80, 144)
        .seq_len(256, 512, 1024)
        .fewer_examples()
        .change("frac_noise", &Setting::frac_noise, 0.4, 0.6, 0.8)
        .settings();
  }
  if (task == "memorization") return Variations(task).vocab_size(512, 1024, 2048, 4096, 8192).settings();
  if (task == "compression") {
    return Variations(task).vocab_size(32, 64, 128).seq_len(64, 128, 256).fewer_examples().settings();
  }
  if (task == "selective-copying") {
    return Variations(task)
        .vocab_size(32, 64, 128)
        .seq_len(512, 1024)
        .fewer_examples()
        .change("num_tokens_to_copy", &Setting::num_tokens_to_copy, 32, 64, 96)
        .settings();
  }
  throw UsageError("task '" + std::string(task) +
                   "' is not part of the benchmark. Its tasks are in-context-recall, noisy-in-context-recall, "
                   "fuzzy-in-context-recall, memorization, compression and selective-copying.");
}

/// The tasks of the benchmark, in its order.
inline constexpr std::array<std::string_view, 6> benchmark_tasks{
    "in-context-recall", "noisy-in-context-recall", "fuzzy-in-context-recall", "memorization",
    "compression",       "selective-copying"};

/// All 66 settings, task by task.
inline std::vector<BenchmarkSetting> benchmark_settings() {
  std::vector<BenchmarkSetting> all;
  for (const std::string_view task : benchmark_tasks) {
    for (BenchmarkSetting& setting : benchmark_settings(task)) all.push_back(std::move(setting));
  }
  return all;
}

/// All 396 runs: task by task, within a task grid point by grid point, within a point setting by setting.
inline std::vector<BenchmarkRun> benchmark_runs() {
  std::vector<BenchmarkRun> runs;
  Index first = 0;
  for (const std::string_view task : benchmark_tasks) {
    const auto count = static_cast<Index>(benchmark_settings(task).size());
    for (Index point = 0; point < static_cast<Index>(grid.size()); ++point) {
      for (Index i = 0; i < count; ++i) {
        runs.push_back({.index = static_cast<Index>(runs.size()), .setting = first + i, .point = point});
      }
    }
    first += count;
  }
  return runs;
}

}  // namespace mad::protocol
