// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Which task, in which setting: what was asked for on top of the defaults.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/tasks/registry.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mad::cli {

/// The option that sets a field: `--seq-len` for `seq_len`.
inline std::string option_of(std::string_view field) {
  std::string option = "--" + std::string(field);
  std::replace(option.begin(), option.end(), '_', '-');
  return option;
}

/// A field's value as it is written on the command line.
template <class Value>
std::string value_text(const Value& value) {
  if constexpr (std::is_same_v<Value, bool>) return value ? "on" : "off";
  return message({value});
}

/// A field's value as an argument: `--seq-len 128`, `--no-multi-query`.
template <class Value>
std::string argument_of(std::string_view field, const Value& value) {
  const std::string option = option_of(field);
  if constexpr (std::is_same_v<Value, bool>) return value ? option : "--no-" + option.substr(2);
  return option + " " + value_text(value);
}

/// A task and the fields of its setting that were given. All others have the reference's defaults (those of
/// `tasks::Setting`), or with `baseline` those of the task's baseline in the benchmark.
struct TaskChoice {
  struct Change {
    std::string field;
    std::function<void(tasks::Setting&)> apply;
  };

  std::string task = "in-context-recall";
  bool baseline = false;
  std::vector<Change> changes = {};

  /// The setting for a task, checked. \throws UsageError naming the option and the baseline's value.
  tasks::Setting setting_for(const tasks::Task& chosen) const {
    tasks::Setting setting = baseline ? chosen.baseline : tasks::Setting{};
    for (const Change& change : changes) change.apply(setting);
    setting.task = chosen.name;
    try {
      chosen.validate(setting);
    } catch (const UsageError& error) {
      throw UsageError(error.what() + advice(chosen, error.what()));
    }
    return setting;
  }

  /// Fields that were given although they make no difference to the task.
  std::vector<std::string> unused(const tasks::Task& chosen) const {
    std::vector<std::string> names;
    for (const Change& change : changes) {
      const bool always_used =
          change.field == "num_train_examples" || change.field == "num_test_examples" || change.field == "seed";
      if (!always_used && !chosen.uses(change.field)) names.push_back(change.field);
    }
    return names;
  }

private:
  /// Tasks speak of fields, a person on the command line thinks in options.
  static std::string advice(const tasks::Task& chosen, const std::string& message) {
    std::string text;
    tasks::for_each_field(chosen.baseline, [&](tasks::Field field, const auto& value) {
      if (!text.empty() || message.find(": " + std::string(field.name) + " is ") == std::string::npos) return;
      text = "\nThe option is " + option_of(field.name) + "; the baseline of this task has " + value_text(value) +
             " (--baseline takes all of its values).";
    });
    return text;
  }
};

}  // namespace mad::cli
