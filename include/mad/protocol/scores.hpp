// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// From the outcomes of runs to the score of an architecture; what is missing is said, never filled in.
#pragma once

#include <mad/core/shape.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mad::protocol {

enum class RunStatus { finished, failed, missing };

/// What became of one run.
struct RunOutcome {
  std::string task = {};
  std::string setting = {};  ///< label of the difficulty, the same for all grid points
  double learning_rate = 0;
  double weight_decay = 0;
  RunStatus status = RunStatus::missing;
  double test_accuracy = std::numeric_limits<double>::quiet_NaN();  ///< of a finished run; if not finite it failed
  std::string note = {};                                            ///< why it failed
};

/// How many runs ended how.
struct RunCounts {
  Index finished = 0;
  Index failed = 0;
  Index missing = 0;

  Index total() const { return finished + failed + missing; }
  bool complete() const { return finished == total(); }
  RunCounts& operator+=(const RunCounts& other) {
    finished += other.finished;
    failed += other.failed;
    missing += other.missing;
    return *this;
  }
};

/// The best of a setting's runs over the grid.
struct SettingScore {
  std::string setting = {};
  std::optional<double> accuracy = std::nullopt;  ///< nothing if no run finished
  double learning_rate = 0;                       ///< where the best was reached, the first if several
  double weight_decay = 0;
  RunCounts runs = {};
};

/// The mean over a task's settings.
struct TaskScore {
  std::string task = {};
  std::optional<double> accuracy = std::nullopt;  ///< over the settings that have a score; nothing if none has
  std::vector<SettingScore> settings = {};
  RunCounts runs = {};

  Index scored() const {
    return std::ranges::count_if(settings, [](const SettingScore& score) { return score.accuracy.has_value(); });
  }
};

/// The score of an architecture.
struct Scores {
  std::optional<double> accuracy = std::nullopt;  ///< mean over the tasks that have a score; nothing if none has
  std::vector<TaskScore> tasks = {};
  RunCounts runs = {};
  std::vector<std::string> failures = {};  ///< one line for each failed run

  /// True if every run finished; otherwise the numbers are those of a part of the protocol.
  bool complete() const { return runs.complete(); }
};

namespace detail {

/// With a number of digits after the point.
inline std::string number_text(double value, int digits, std::chars_format format = std::chars_format::fixed) {
  std::array<char, 64> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value, format, digits).ptr};
}

/// The shortest text that is read back as the same number.
inline std::string short_number(double value) {
  std::array<char, 64> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

template <class Entry>
std::optional<double> mean_accuracy(const std::vector<Entry>& entries) {
  double sum = 0;
  Index count = 0;
  for (const Entry& entry : entries) {
    if (!entry.accuracy) continue;
    sum += *entry.accuracy;
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

template <class Entry>
Entry& entry_named(std::vector<Entry>& entries, std::string Entry::*name, const std::string& wanted) {
  const auto found = std::ranges::find(entries, wanted, name);
  if (found != entries.end()) return *found;
  entries.emplace_back();
  entries.back().*name = wanted;
  return entries.back();
}

}  // namespace detail

/// The protocol's score: per setting the best test accuracy over the grid, per task the mean over its settings, overall
/// the mean over tasks. Give all runs that belong to the protocol, missing ones too: they are counted. Tasks and
/// settings keep the order in which they first occur.
inline Scores score(std::span<const RunOutcome> outcomes) {
  Scores scores;
  for (const RunOutcome& run : outcomes) {
    TaskScore& task = detail::entry_named(scores.tasks, &TaskScore::task, run.task);
    SettingScore& setting = detail::entry_named(task.settings, &SettingScore::setting, run.setting);
    if (run.status == RunStatus::missing) {
      ++setting.runs.missing;
    } else if (run.status == RunStatus::failed || !std::isfinite(run.test_accuracy)) {
      ++setting.runs.failed;
      scores.failures.push_back(
          run.task + ", " + run.setting + ", learning rate " + detail::short_number(run.learning_rate) +
          ", weight decay " + detail::short_number(run.weight_decay) + ": " + (run.note.empty() ? "failed" : run.note));
    } else {
      ++setting.runs.finished;
      if (!setting.accuracy || run.test_accuracy > *setting.accuracy) {
        setting.accuracy = run.test_accuracy;
        setting.learning_rate = run.learning_rate;
        setting.weight_decay = run.weight_decay;
      }
    }
  }
  for (TaskScore& task : scores.tasks) {
    for (const SettingScore& setting : task.settings) task.runs += setting.runs;
    task.accuracy = detail::mean_accuracy(task.settings);
    scores.runs += task.runs;
  }
  scores.accuracy = detail::mean_accuracy(scores.tasks);
  return scores;
}

/// The score table for a terminal: one line per task, the overall score, and what is missing.
inline std::string score_table(const Scores& scores) {
  constexpr std::string_view head = "task";
  std::size_t width = std::string_view("mean over tasks").size();
  for (const TaskScore& task : scores.tasks) width = std::max(width, task.task.size());
  const auto padded = [&](std::string_view text) { return std::string(text) + std::string(width - text.size(), ' '); };
  const auto accuracy = [](const std::optional<double>& value) {
    return value ? detail::number_text(*value, 4) : std::string("     -");
  };
  std::string text = padded(head) + "  accuracy  settings  runs\n";
  for (const TaskScore& task : scores.tasks) {
    const std::string settings = std::to_string(task.scored()) + "/" + std::to_string(task.settings.size());
    text += padded(task.task) + "    " + accuracy(task.accuracy) + "  " +
            std::string(settings.size() < 8 ? 8 - settings.size() : 0, ' ') + settings + "  " +
            std::to_string(task.runs.finished) + "/" + std::to_string(task.runs.total()) + "\n";
  }
  text += padded("mean over tasks") + "    " + accuracy(scores.accuracy) + "\n";
  if (!scores.complete()) {
    text += "incomplete: of " + std::to_string(scores.runs.total()) + " runs " + std::to_string(scores.runs.failed) +
            " failed and " + std::to_string(scores.runs.missing) + " are missing; the means are over what there is\n";
  }
  for (const std::string& failure : scores.failures) text += "failed: " + failure + "\n";
  return text;
}

}  // namespace mad::protocol
