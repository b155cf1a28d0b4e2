// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `mad benchmark`: trains an architecture on the tasks of the benchmark and scores it.
#pragma once

#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>
#include <mad/cli/shared_data.hpp>
#include <mad/cli/text_table.hpp>
#include <mad/cli/train_run.hpp>
#include <mad/core/files.hpp>
#include <mad/core/message.hpp>
#include <mad/protocol/benchmark.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mad::cli {

/// Everything that `mad benchmark` was asked for.
struct BenchmarkRequest {
  std::string preset = "quick";
  std::vector<std::string> tasks = {};  ///< empty: all six
  bool list = false;                    ///< show the runs and what is finished; train nothing
  train::Fidelity fidelity = train::Fidelity::published;
  ModelChoice model = {.norm = Norm::rms_norm};  ///< the reference's benchmark leaves its backbones' default
  std::string folder = {};                       ///< empty: a name below ./benchmark
  std::string data_path = "./benchmark/data";
  std::string log_base_path = {};  ///< empty: `logs` in the folder
  DeviceChoice device = {};
  std::optional<Index> asked_at_once = {};
  RunChoice run = {};

  /// Runs that are trained at the same time: on a GPU two make more steps per second than one or four
  /// (docs/performance.md).
  Index at_once() const { return asked_at_once.value_or(device.cuda ? 2 : 1); }
};

namespace detail {

inline protocol::Plan planned(const BenchmarkRequest& request, const Program& program) {
  protocol::Plan plan =
      request.preset == "full" ? protocol::full_plan(request.fidelity) : protocol::quick_plan(request.fidelity);
  if (request.tasks.empty()) return plan;
  std::vector<std::string> names;
  for (const std::string& asked : request.tasks) {
    names.push_back(tasks::find_task(asked, program.tasks).name);
    const bool there = std::any_of(plan.runs.begin(), plan.runs.end(),
                                   [&](const auto& run) { return run.setting.task == names.back(); });
    if (!there) throw UsageError("--tasks: '" + asked + "' is not part of the benchmark.");
  }
  std::erase_if(plan.runs, [&](const protocol::PlannedRun& run) {
    return std::find(names.begin(), names.end(), run.setting.task) == names.end();
  });
  return plan;
}

inline nlohmann::ordered_json scores_json(const protocol::Plan& plan, const protocol::Scores& scores,
                                          const ModelPlan& model, const BenchmarkRequest& request) {
  const auto number = [](const std::optional<double>& v) -> nlohmann::ordered_json {
    if (!v) return nullptr;
    return *v;
  };
  nlohmann::ordered_json j;
  j["preset"] = plan.name;
  j["model"] = model.id;
  j["layers"] = model.layers;
  j["dim"] = model.architecture.width;
  j["norm"] = name(model.architecture.norm);
  j["fidelity"] = train::name(request.fidelity);
  request.device.describe(j);
  j["complete"] = scores.complete();
  j["accuracy"] = number(scores.accuracy);
  for (const protocol::TaskScore& task : scores.tasks) {
    nlohmann::ordered_json t;
    t["accuracy"] = number(task.accuracy);
    for (const protocol::SettingScore& s : task.settings) {
      nlohmann::ordered_json one;
      one["setting"] = s.setting;
      one["accuracy"] = number(s.accuracy);
      one["lr"] = s.learning_rate;
      one["weight_decay"] = s.weight_decay;
      t["settings"].push_back(one);
    }
    j["tasks"][task.task] = t;
  }
  return j;
}

/// One line per run: its number, whether it is finished, what it is.
template <class IsFinished>
std::string run_list(const protocol::Plan& plan, const IsFinished& is_finished) {
  using enum TextTable::Align;
  TextTable table({right, left, left, left, right, right});
  table.add({"run", "state", "task", "setting", "lr", "weight decay"});
  for (std::size_t i = 0; i < plan.runs.size(); ++i) {
    const protocol::PlannedRun& run = plan.runs[i];
    table.add({std::to_string(i), is_finished(run) ? "finished" : "to do", run.setting.task, run.label,
               message({run.training.learning_rate}), message({run.training.weight_decay})});
  }
  return table.text();
}

/// Tells of runs that end beside others, a line each.
class RunCounter {
public:
  explicit RunCounter(std::size_t planned) : planned_(planned) {}

  std::string line(const protocol::BenchmarkRunRecord& run) {
    ++ended_;
    std::string text = std::to_string(ended_) + "/" + std::to_string(planned_) + "  " + run.outcome.task + ", " +
                       run.outcome.setting + ", lr " + message({run.outcome.learning_rate}) + ", weight decay " +
                       message({run.outcome.weight_decay});
    if (run.skipped) return text + ": finished before";
    ++trained_;
    if (run.outcome.status == protocol::RunStatus::finished)
      text += ": accuracy " + decimal(run.outcome.test_accuracy) + ", took " + train::duration_text(run.seconds);
    else
      text += ": failed";
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const auto left = static_cast<double>(planned_ - ended_);
    return left > 0 ? text + ", " + train::duration_text(seconds / static_cast<double>(trained_) * left) + " left"
                    : text;
  }

private:
  std::size_t planned_;
  std::size_t ended_ = 0;
  std::size_t trained_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace detail

/// Runs `mad benchmark`. Exit status 0, 1 if a run failed, 130 or 143 after a signal.
inline int benchmark_and_report(const BenchmarkRequest& asked, const Program& program) {
  BenchmarkRequest request = asked;
  require_possible(request.device);
  if (!request.device.cuda && request.at_once() > 1)
    throw UsageError("--runs-at-once is for --device cuda; on the CPU one run after the other uses all threads.");
  if (request.preset == "quick" && !request.device.cuda && !request.model.width && program.layers.has_width(64))
    request.model.width = 64;
  const protocol::Plan plan = detail::planned(request, program);
  const auto training_of = [&](const protocol::PlannedRun& planned) {
    TrainRun run;
    run.task = tasks::find_task(planned.setting.task, program.tasks);
    run.setting = planned.setting;
    run.model = plan_model(request.model, program.layers, run.task, run.setting, planned.training.fidelity,
                           static_cast<Index>(planned.setting.seq_len));
    run.training = planned.training;
    run.device = request.device;
    return run;
  };
  const TrainRun first = training_of(plan.runs.front());
  const std::string layers = joined(first.model.layers, " ");
  const std::string width = std::to_string(first.model.architecture.width);
  const std::string norm(name(request.model.norm));
  const std::filesystem::path folder =
      request.folder.empty()
          ? std::filesystem::path("benchmark") / request.preset /
                (first.model.id + "_d-" + width + "_" + norm + "_" + std::string(train::name(request.fidelity)) +
                 (request.device.cuda ? "_cuda-" + std::string(train::name(request.device.precision())) : "") +
                 (request.device.micro_batch > 0 ? "_mb-" + std::to_string(request.device.micro_batch) : ""))
          : std::filesystem::path(request.folder);
  const std::filesystem::path logs =
      request.log_base_path.empty() ? folder / "logs" : std::filesystem::path(request.log_base_path);
  const auto decided = [&](const protocol::PlannedRun& planned) {
    TrainRun run = training_of(planned);
    run.folder = logs / run_folder_name(run, static_cast<int>(run.model.architecture.width), request.model.norm,
                                        static_cast<Index>(planned.setting.seq_len));
    return run;
  };
  // Every run is checked before the first is trained.
  for (const protocol::PlannedRun& planned : plan.runs) {
    const TrainRun run = decided(planned);
    run.task.validate(run.setting);
    require_possible(run);
  }
  if (request.list) {
    print(detail::run_list(
        plan, [&](const protocol::PlannedRun& planned) { return finished_results(decided(planned)).has_value(); }));
    return 0;
  }

  Workplace workplace(request.device, request.run.threads);
  require_writable_folder(folder);
  const bool one_by_one = request.at_once() == 1;
  if (!request.run.quiet)
    note("benchmark " + plan.name + ": " + layers + " of width " + width + ", " + std::to_string(plan.runs.size()) +
         " runs, " + (one_by_one ? "" : std::to_string(request.at_once()) + " at a time, ") + workplace.text());
  const train::InterruptGuard guard;
  std::optional<train::Progress> progress;
  if (!request.run.quiet && one_by_one) progress.emplace();
  detail::RunCounter counter(plan.runs.size());
  SharedData data(tasks::below_original_folder(std::filesystem::path(request.data_path)));
  const auto finished = [&](const protocol::PlannedRun& planned) -> std::optional<protocol::FinishedRun> {
    const TrainRun run = decided(planned);
    const std::optional<train::Results> results = finished_results(run);
    if (!results) return std::nullopt;
    protocol::FinishedRun known{.results = *results, .test_accuracy = {}};
    if (std::filesystem::exists(train::metrics_file(run.folder)))
      for (const auto& [epoch, value] :
           train::MetricsLog::read_column(train::metrics_file(run.folder), "test/Accuracy_epoch"))
        known.test_accuracy.push_back(value);
    if (std::filesystem::exists(train::record_file(run.folder)))
      known.seconds = train::read_record(train::record_file(run.folder)).value("seconds", known.seconds);
    return known;
  };
  const auto train = [&](const protocol::PlannedRun& planned, const std::string& label) {
    const TrainRun run = decided(planned);
    return train_model(run, *data.get(run.task, run.setting), workplace, progress ? &*progress : nullptr, &guard,
                       label);
  };
  std::size_t skipped = 0;
  const protocol::BenchmarkRecord record = protocol::run_plan(
      plan, finished, train,
      [&](const protocol::BenchmarkRunRecord& run) {
        skipped += run.skipped ? 1 : 0;
        if (!one_by_one && !request.run.quiet) note(counter.line(run));
        if (run.outcome.status != protocol::RunStatus::failed) return;
        const std::string text =
            "mad: run failed: " + run.outcome.task + " " + run.outcome.setting + ": " + run.outcome.note;
        if (progress)
          progress->message(text);
        else
          note(text);
      },
      request.at_once());
  progress.reset();

  const protocol::Scores scores = protocol::score(protocol::outcomes(plan, record));
  protocol::ReportData report = protocol::report_data(
      plan, record, scores, layers,
      "width " + width + ", " + norm + ", fidelity " + std::string(train::name(request.fidelity)));
  report.settings.emplace_back("layers", layers);
  report.settings.emplace_back("width", width);
  report.settings.emplace_back("norm", norm);
  report.settings.emplace_back("fidelity", std::string(train::name(request.fidelity)));
  const nlohmann::ordered_json where = workplace.environment();
  for (const auto& [key, value] : where.items())
    report.settings.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  protocol::write_report(folder / "report.html", report);
  write_file(folder / "scores.json", detail::scores_json(plan, scores, first.model, request).dump(2) + "\n");

  print(protocol::score_table(scores) +
        (skipped > 0 ? std::to_string(skipped) + " runs were finished before and not trained again\n" : "") +
        "report in " + mad::detail::quoted(folder / "report.html") + "\n");
  if (record.interrupted) {
    note("mad: interrupted; the same command goes on from here.");
    return guard.exit_status();
  }
  return scores.runs.failed > 0 ? Error::exit_status : 0;
}

inline Command benchmark_command(CLI::App& parent, const Program& program) {
  CLI::App* app = parent.add_subcommand("benchmark", "train a model on the tasks of the benchmark and score it");
  const auto request = std::make_shared<BenchmarkRequest>();
  OptionGroup group(*app, "Benchmark");
  group.text("--preset", "quick|full", request->preset,
             "quick: six small runs, minutes; full: the 396 runs of the protocol", [request](const std::string& given) {
               if (given != "quick" && given != "full")
                 throw UsageError("--preset is '" + given + "', must be quick or full.");
               request->preset = given;
             });
  group.list("--tasks", "NAME ...", request->tasks, "all", "only these tasks of the preset");
  group.flag("--list", "show the runs, and which are finished; train nothing", [request] { request->list = true; });
  group.word("--fidelity", request->fidelity, {train::Fidelity::published, train::Fidelity::intended},
             "train as the published code does, or as the paper says");
  add_model_options(*app, request->model, program.layers);
  OptionGroup files(*app, "Files");
  files.text("--out", "FOLDER", "./benchmark/<preset>/<model>", "folder of report.html, scores.json and the logs",
             [request](const std::string& given) { request->folder = given; });
  files.text("--data-path", "FOLDER", request->data_path, "where generated data are kept and looked for");
  files.text("--log-base-path", "FOLDER", "<out>/logs", "where the runs are recorded",
             [request](const std::string& given) { request->log_base_path = given; });
  add_device_options(*app, request->device);
  OptionGroup device(*app, "Device");
  device.text("--runs-at-once", "INT", "cuda: 2", "runs that a GPU trains at the same time; changes no result",
              [request](const std::string& given) {
                request->asked_at_once = OptionGroup::parse_number<Index>("--runs-at-once", given, 1, 64);
              });
  add_run_options(*app, request->run);
  app->footer(
      "On the CPU the quick preset takes width 64 where it is compiled in. Finished runs are skipped, so the same "
      "command\n"
      "goes on where it was stopped.\n\nExample:\n  " +
      program.name + " benchmark --preset quick --layers " + joined(program.layers.default_layers(), " "));
  return {app, [request, &program] { return benchmark_and_report(*request, program); }};
}

}  // namespace mad::cli
