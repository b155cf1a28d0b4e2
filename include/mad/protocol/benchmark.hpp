// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Runs a plan: one training after the other, finished ones skipped, failed ones recorded.
#pragma once

#include <mad/core/error.hpp>
#include <mad/protocol/plan.hpp>
#include <mad/protocol/report.hpp>
#include <mad/protocol/scores.hpp>
#include <mad/train/state.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace mad::protocol {

/// What an earlier session left of a run.
struct FinishedRun {
  train::Results results;
  std::vector<double> test_accuracy;  ///< by epoch
  double seconds = std::numeric_limits<double>::quiet_NaN();
};

/// What came of one planned run.
struct BenchmarkRunRecord {
  RunOutcome outcome;
  train::Results results;
  std::vector<double> test_accuracy;  ///< by epoch
  double seconds = std::numeric_limits<double>::quiet_NaN();
  bool skipped = false;  ///< had been finished before
};

/// What came of a benchmark.
struct BenchmarkRecord {
  std::vector<BenchmarkRunRecord> runs;  ///< those that were done, in order; fewer than planned if interrupted
  bool interrupted = false;
};

/// Trains the runs of a plan in order. `finished(run)` returns what an earlier session left of a run
/// (std::optional<FinishedRun>), `train(run, label)` trains it (train::RunReport). A run that fails is recorded and the
/// rest goes on; an interrupted one ends it all. `done` hears of every run as it ends.
/// \throws UsageError of the two functions: what was asked cannot be done, and later runs would fail in the same way.
template <class Finished, class Train>
BenchmarkRecord run_plan(const Plan& plan, const Finished& finished, const Train& train,
                         const std::function<void(const BenchmarkRunRecord&)>& done = {}) {
  BenchmarkRecord record;
  for (std::size_t i = 0; i < plan.runs.size(); ++i) {
    const PlannedRun& run = plan.runs[i];
    BenchmarkRunRecord r;
    std::string failure;
    if (const std::optional<FinishedRun> known = finished(run)) {
      r.results = known->results;
      r.test_accuracy = known->test_accuracy;
      r.seconds = known->seconds;
      r.skipped = true;
    } else {
      try {
        const train::RunReport report =
            train(run, std::to_string(i + 1) + "/" + std::to_string(plan.runs.size()) + " " + run.setting.task +
                           (run.label == plan.name ? "" : " " + run.label));
        if (report.outcome == train::Outcome::interrupted) {
          record.interrupted = true;
          return record;
        }
        if (report.outcome == train::Outcome::diverged) failure = report.message;
        r.results = report.results;
        r.seconds = report.seconds;
        for (const train::EpochRecord& e : report.epochs) r.test_accuracy.push_back(e.test.accuracy);
      } catch (const UsageError&) {
        throw;
      } catch (const Error& error) {
        failure = error.what();
      }
    }
    r.outcome.task = run.setting.task;
    r.outcome.setting = run.label;
    r.outcome.learning_rate = run.training.learning_rate;
    r.outcome.weight_decay = run.training.weight_decay;
    r.outcome.status = failure.empty() ? RunStatus::finished : RunStatus::failed;
    r.outcome.note = failure;
    r.outcome.test_accuracy = r.results.test.accuracy;
    record.runs.push_back(r);
    if (done) done(record.runs.back());
  }
  return record;
}

/// Outcomes of all planned runs; those that were not done are missing.
inline std::vector<RunOutcome> outcomes(const Plan& plan, const BenchmarkRecord& record) {
  std::vector<RunOutcome> all;
  for (std::size_t i = 0; i < plan.runs.size(); ++i) {
    if (i < record.runs.size()) {
      all.push_back(record.runs[i].outcome);
      continue;
    }
    RunOutcome missing;
    missing.task = plan.runs[i].setting.task;
    missing.setting = plan.runs[i].label;
    missing.learning_rate = plan.runs[i].training.learning_rate;
    missing.weight_decay = plan.runs[i].training.weight_decay;
    all.push_back(missing);
  }
  return all;
}

/// The page of a benchmark's results. A task's learning curve is that of its best run.
inline ReportData report_data(const Plan& plan, const BenchmarkRecord& record, const Scores& scores,
                              const std::string& model_name, const std::string& model_detail) {
  ReportData data;
  data.title = "MAD benchmark, " + plan.name;
  data.summary = plan.summary;
  ReportModel model;
  model.name = model_name;
  model.detail = model_detail;
  model.score = scores.accuracy;
  for (const TaskScore& task : scores.tasks) {
    ReportTask shown;
    shown.name = task.task;
    shown.score = task.accuracy;
    if (!task.runs.complete())
      shown.note = std::to_string(task.runs.finished) + " of " + std::to_string(task.runs.total()) + " runs finished";
    const BenchmarkRunRecord* best = nullptr;
    for (const BenchmarkRunRecord& r : record.runs) {
      if (r.outcome.task != task.task || r.outcome.status != RunStatus::finished) continue;
      if (best == nullptr || r.outcome.test_accuracy > best->outcome.test_accuracy) best = &r;
    }
    if (best != nullptr) {
      shown.test_accuracy = best->test_accuracy;
      shown.train_accuracy = best->results.train.accuracy;
      shown.test_perplexity = best->results.test.perplexity;
      shown.test_loss = best->results.test.loss;
      shown.seconds = best->seconds;
    }
    model.tasks.push_back(std::move(shown));
  }
  data.models.push_back(std::move(model));
  for (const std::string& failure : scores.failures) data.warnings.push_back(failure);
  if (scores.runs.missing > 0)
    data.warnings.push_back(std::to_string(scores.runs.missing) + " of " + std::to_string(scores.runs.total()) +
                            " runs are missing; the scores are those of a part of the protocol");
  return data;
}

}  // namespace mad::protocol
