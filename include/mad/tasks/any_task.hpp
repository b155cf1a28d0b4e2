// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A task as a value: what a program that learns of its task only at run time holds and passes on.
#pragma once

#include <mad/tasks/dataset.hpp>
#include <mad/tasks/setting.hpp>
#include <mad/tasks/task.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace mad::tasks {

/// Any task, its type forgotten. Made by `task_of<T>()`, from a built-in task or from one of your own.
struct Task {
  std::string name = {};
  std::string shorthand = {};  ///< used in directory names; the name if the task has none
  std::string description = {};
  Setting baseline = {};  ///< `baseline.task` is the name
  std::vector<std::string> fields =
      {};                     ///< names of the setting's fields that make a difference, besides counts and seed
  int version = 1;            ///< of the data that a setting gives
  bool auto_encoder = false;  ///< to be learned through an encoding of the whole input
  void (*validate)(const Setting&) = nullptr;
  std::int64_t (*row_length)(const Setting&) = nullptr;  ///< columns of the arrays, for a valid setting
  Dataset (*generate)(const Setting&) = nullptr;

  bool uses(std::string_view field) const { return std::find(fields.begin(), fields.end(), field) != fields.end(); }
};

/// The value for a task type. Nothing is registered anywhere: `task_of<Mine>()` can be passed wherever a `Task` goes.
template <TaskType T>
[[gnu::cold]] Task task_of() {
  Task task{.name = std::string(T::name), .validate = &validate<T>, .generate = &generate<T>};
  task.row_length = [](const Setting& setting) -> std::int64_t { return T::row_length(setting); };
  task.shorthand = task.name;
  if constexpr (requires { T::shorthand; }) task.shorthand = std::string(T::shorthand);
  if constexpr (requires { T::description; }) task.description = std::string(T::description);
  if constexpr (requires { T::baseline(); }) task.baseline = T::baseline();
  task.baseline.task = task.name;
  if constexpr (requires { T::fields; }) {
    task.fields.assign(T::fields.begin(), T::fields.end());
  } else {
    for_each_field(task.baseline, [&](Field field, const auto&) { task.fields.emplace_back(field.name); });
  }
  if constexpr (requires { T::version; }) task.version = T::version;
  if constexpr (requires { T::auto_encoder; }) task.auto_encoder = T::auto_encoder;
  return task;
}

}  // namespace mad::tasks
