// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The built-in tasks by name: the six of the MAD benchmark and plain copying.
#pragma once

#include <mad/core/error.hpp>
#include <mad/tasks/any_task.hpp>
#include <mad/tasks/compression.hpp>
#include <mad/tasks/copying.hpp>
#include <mad/tasks/fuzzy_recall.hpp>
#include <mad/tasks/memorization.hpp>
#include <mad/tasks/recall.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mad::tasks {

/// The tasks that ship with the library, in the order of the benchmark; plain copying, which is not part of it, last.
[[gnu::cold]] inline const std::vector<Task>& built_in_tasks() {
  static const std::vector<Task> tasks{task_of<Recall>(),       task_of<NoisyRecall>(), task_of<FuzzyRecall>(),
                                       task_of<Memorization>(), task_of<Compression>(), task_of<SelectiveCopying>(),
                                       task_of<Copying>()};
  return tasks;
}

namespace detail {

/// Smallest number of single-character changes that turn one text into the other (Levenshtein).
[[gnu::cold]] inline std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

[[gnu::cold]] inline std::string unknown_task(std::string_view asked, const std::vector<Task>& tasks) {
  const Task* nearest = nullptr;
  std::size_t least = asked.size() / 2 + 1;  // farther away is no misspelling
  for (const Task& task : tasks) {
    // A part of a name ("recall", "noisy") is near too.
    const bool part = asked.size() >= 3 && task.name.find(asked) != std::string::npos;
    const std::size_t distance =
        part ? 1 : std::min(edit_distance(asked, task.name), edit_distance(asked, task.shorthand));
    if (distance < least) {
      least = distance;
      nearest = &task;
    }
  }
  std::string text = "unknown task '" + std::string(asked) + "'";
  text += nearest != nullptr ? ". Did you mean '" + nearest->name + "'?" : ".";
  text += "\nThe tasks are:";
  for (const Task& task : tasks) {
    text += (&task == &tasks.front() ? " " : ", ") + task.name;
    if (task.shorthand != task.name) text += " (" + task.shorthand + ")";
  }
  return text + ".";
}

}  // namespace detail

/// The task of that name or shorthand. \param tasks where to look; give a list with your own tasks to add them.
/// \throws UsageError, with the nearest name and a list of all, if there is none.
inline const Task& find_task(std::string_view name_or_shorthand, const std::vector<Task>& tasks = built_in_tasks()) {
  const auto found = std::find_if(tasks.begin(), tasks.end(), [&](const Task& task) {
    return task.name == name_or_shorthand || task.shorthand == name_or_shorthand;
  });
  if (found == tasks.end()) throw UsageError(detail::unknown_task(name_or_shorthand, tasks));
  return *found;
}

/// Generates the data of a built-in task, `setting.task` (name or shorthand).
/// \throws UsageError before any work if the task is unknown or the setting impossible.
inline Dataset generate(const Setting& setting) { return find_task(setting.task).generate(setting); }

/// Throws unless `generate(setting)` can be done. \throws UsageError
inline void validate(const Setting& setting) { find_task(setting.task).validate(setting); }

}  // namespace mad::tasks
