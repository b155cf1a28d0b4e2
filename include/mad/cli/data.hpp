// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `mad data`: writes the data of a task, in the reference's layout.
#pragma once

#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>
#include <mad/cli/text_table.hpp>
#include <mad/tasks/dataset_files.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace mad::cli {

/// What became of the data of a setting, for a person.
inline std::string origin_text(const tasks::StoredDataset& stored) {
  const std::string folder = mad::detail::quoted(stored.folder);
  switch (stored.origin) {
    case tasks::Origin::loaded:
      return "read from " + folder + ", where it was already";
    case tasks::Origin::generated:
      return "generated and written to " + folder;
    case tasks::Origin::regenerated:
      return "generated again and written to " + folder + ", where it was damaged:\n" + stored.reason;
    case tasks::Origin::adopted:
      return "found in " + folder + " without a label, checked and labelled";
  }
  return "";
}

/// Says which given options make no difference to the task.
inline void note_unused(const TaskChoice& choice, const tasks::Task& task) {
  for (const std::string& field : choice.unused(task))
    note("mad: note: task '" + task.name + "' does not use " + option_of(field) +
         "; it changes nothing but the name of the folder.");
}

/// Number of test sequences that occur in training, in words.
inline std::string leakage_text(const tasks::Leakage& leakage) {
  std::string text = std::to_string(leakage.leaked_rows) + " of " + std::to_string(leakage.test_rows) +
                     " test sequences occur in the training data";
  if (leakage.is_noteworthy()) text += " (" + decimal(100 * leakage.share(), 1) + "% of the distinct ones)";
  return text;
}

inline Command data_command(CLI::App& parent, const Program& program) {
  CLI::App* app = parent.add_subcommand("data", "generate the data of a task and write it");
  struct Options {
    TaskChoice task;
    FileChoice files;
  };
  const auto options = std::make_shared<Options>();
  add_task_options(*app, options->task);
  add_data_options(*app, options->files);
  app->footer(
      "The folder is named after the setting and holds train/ and test/, each with inputs.npy and targets.npy.\n"
      "Data that are there already are checked and kept.\n\nExample:\n  " +
      program.name + " data --task fuzzy-in-context-recall --baseline --data-path ./data");
  return {app, [options, &program] {
            const tasks::Task& task = tasks::find_task(options->task.task, program.tasks);
            const tasks::Setting setting = options->task.setting_for(task);
            note_unused(options->task, task);
            const auto stored = tasks::load_or_generate(
                task, setting, tasks::below_original_folder(std::filesystem::path(options->files.data_path)));
            const auto shape = [](const tasks::Examples& half) {
              return std::to_string(half.rows) + " x " + std::to_string(half.columns);
            };
            print(task.name + ": " + origin_text(stored) + "\ntrain  " + shape(stored.data.train) + "\ntest   " +
                  shape(stored.data.test) + "\n" + leakage_text(tasks::leakage(stored.data.train, stored.data.test)) +
                  "\n");
            return 0;
          }};
}

}  // namespace mad::cli
