// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `mad tasks`: what can be trained on.
#pragma once

#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>

#include <string>
#include <vector>

namespace mad::cli {

/// Name, what it tests, the options it uses and its baseline as a command line, for each task.
inline std::string tasks_text(const std::vector<tasks::Task>& all) {
  std::string text;
  for (const tasks::Task& task : all) {
    const tasks::Setting defaults;
    std::string used;
    for (const std::string& field : task.fields) used += (used.empty() ? "" : " ") + option_of(field);
    // Side by side with the defaults: both visits see the fields in the same order.
    std::vector<std::string> before;
    tasks::for_each_field(defaults, [&](tasks::Field, const auto& value) { before.push_back(value_text(value)); });
    std::string baseline;
    std::size_t at = 0;
    tasks::for_each_field(task.baseline, [&](tasks::Field field, const auto& value) {
      if (value_text(value) != before[at++]) baseline += " " + argument_of(field.name, value);
    });
    text += task.name + (task.shorthand == task.name ? "" : " (" + task.shorthand + ")") + "\n";
    if (!task.description.empty()) text += "  " + task.description + "\n";
    if (task.auto_encoder) text += "  learned through an auto-encoder: the whole input becomes one vector\n";
    text += "  uses      " + used + "\n";
    text += "  baseline  " + (baseline.empty() ? "the defaults" : baseline.substr(1)) + "\n\n";
  }
  return text +
         "All tasks use --num-train-examples, --num-test-examples and --seed as well. What is not given has the "
         "default that\n"
         "the help of 'train' and 'data' shows; with --baseline, the value of the task's baseline in the benchmark.\n";
}

inline Command tasks_command(CLI::App& parent, const Program& program) {
  CLI::App* app = parent.add_subcommand("tasks", "list the tasks, what they test, their options and baselines");
  app->footer("Example:\n  " + program.name + " tasks");
  return {app, [&program] {
            print(tasks_text(program.tasks));
            return 0;
          }};
}

}  // namespace mad::cli
