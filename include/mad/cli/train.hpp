// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `mad train`: trains one model on one task.
#pragma once

#include <mad/cli/data.hpp>
#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>
#include <mad/cli/text_table.hpp>
#include <mad/cli/train_run.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace mad::cli {

/// Accuracy, perplexity and loss on both halves of the data. Accuracy is the mean over classes, as in the reference.
inline std::string results_text(const train::Results& results) {
  using enum TextTable::Align;
  TextTable table({left, right, right, right});
  table.add({"", "accuracy", "perplexity", "loss"});
  const auto add = [&](const char* half, const train::Metrics& m) {
    table.add({half, decimal(m.accuracy), decimal(m.perplexity), decimal(m.loss)});
  };
  add("train", results.train);
  add("test", results.test);
  return table.text();
}

/// Everything that `mad train` was asked for.
struct TrainRequest {
  TaskChoice task;
  ModelChoice model;
  train::TrainSettings training;
  FileChoice files;
  DeviceChoice device;
  RunChoice run;
};

/// The training that a request asks for. \throws UsageError if it cannot be done, before any work.
inline TrainRun plan_training(const TrainRequest& request, const Program& program) {
  TrainRun run;
  run.task = tasks::find_task(request.task.task, program.tasks);
  run.setting = request.task.setting_for(run.task);
  run.model = plan_model(request.model, program.layers, run.task, run.setting, request.training.fidelity);
  run.training = request.training;
  run.training.seed = run.setting.seed;
  run.device = request.device;
  run.folder = request.files.log_path.empty()
                   ? tasks::below_original_folder(
                         std::filesystem::path(request.files.log_base_path) /
                         run_folder_name(run, program.layers.default_width(), Norm::layer_norm, default_max_length))
                   : std::filesystem::path(request.files.log_path);
  require_possible(run);
  return run;
}

/// Runs `mad train`. Exit status 0 if the training is finished, 1 if it diverged, 130 if it was interrupted.
inline int train_and_report(const TrainRequest& request, const Program& program) {
  const TrainRun run = plan_training(request, program);
  note_unused(request.task, run.task);
  const std::string folder = mad::detail::quoted(run.folder);
  if (const auto results = finished_results(run)) {
    print("This run is finished already, its results are in " + folder + ":\n" + results_text(*results));
    return 0;
  }
  std::filesystem::path data_path;
  if (request.files.cache) {
    data_path = tasks::below_original_folder(std::filesystem::path(request.files.data_path));
    // Data that are there already may lie in a folder that is read-only.
    std::error_code ignored;
    if (!std::filesystem::exists(tasks::dataset_folder(data_path, run.task, run.setting), ignored))
      require_possible_folder(data_path);
  }
  require_possible_folder(run.folder);
  Workplace workplace(run.device, request.run.threads);
  const tasks::StoredDataset stored = data_for(run.task, run.setting, data_path);
  if (!request.run.quiet) {
    const Index size = make_layout(run.model.architecture, run.model.options).size;
    note(run.task.name + ", " + run.model.id + " of width " + std::to_string(run.model.architecture.width) + ", " +
         grouped(size) + " parameters, " + workplace.text());
    if (request.files.cache) note("data " + origin_text(stored));
    const tasks::Leakage leakage = tasks::leakage(stored.data.train, stored.data.test);
    if (leakage.is_noteworthy()) note("mad: note: " + leakage_text(leakage) + ".");
  }

  const train::InterruptGuard guard;
  train::RunReport report;
  {
    std::optional<train::Progress> progress;
    if (!request.run.quiet) progress.emplace();
    report = train_model(run, stored.data, workplace, progress ? &*progress : nullptr, &guard, run.task.name);
  }
  if (report.outcome == train::Outcome::interrupted) {
    note("mad: " + report.message);
    return guard.exit_status();
  }
  if (report.outcome == train::Outcome::diverged) throw Error("training diverged: " + report.message);
  print(run.task.name + ", " + run.model.id + ": " + report.message + ", best epoch " +
        std::to_string(report.best_epoch + 1) + "\n" + results_text(report.results) + "recorded in " + folder + "\n");
  return 0;
}

inline Command train_command(CLI::App& parent, const Program& program) {
  CLI::App* app = parent.add_subcommand("train", "train one model on one task");
  const auto request = std::make_shared<TrainRequest>();
  add_task_options(*app, request->task);
  add_model_options(*app, request->model, program.layers);
  add_training_options(*app, request->training);
  add_file_options(*app, request->files);
  add_device_options(*app, request->device);
  add_run_options(*app, request->run);
  app->footer(
      "After every epoch the test set is evaluated; the results are those of the weights with the smallest test\n"
      "perplexity. Ctrl-C stops after the current step; the same command then goes on where it stopped. A run that is\n"
      "finished is not repeated.\n\nExample:\n  " +
      program.name + " train --task in-context-recall --layers " + joined(program.layers.default_layers(), " ") +
      " --epochs 20");
  return {app, [request, &program] { return train_and_report(*request, program); }};
}

}  // namespace mad::cli
