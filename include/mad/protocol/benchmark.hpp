// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Runs a plan: one training after the other or several at a time, finished ones skipped, failed ones recorded.
#pragma once

#include <mad/core/error.hpp>
#include <mad/protocol/plan.hpp>
#include <mad/protocol/report.hpp>
#include <mad/protocol/scores.hpp>
#include <mad/train/side_by_side.hpp>
#include <mad/train/state.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
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
  /// In order, up to the last one that was done; fewer than planned if interrupted. Gaps have the status `missing`.
  std::vector<BenchmarkRunRecord> runs;
  bool interrupted = false;
};

namespace detail {

/// A planned run that was not done.
inline RunOutcome missing_outcome(const PlannedRun& run) {
  RunOutcome outcome;
  outcome.task = run.setting.task;
  outcome.setting = run.label;
  outcome.learning_rate = run.training.learning_rate;
  outcome.weight_decay = run.training.weight_decay;
  return outcome;
}

/// What comes of run number `i`; nothing if it was interrupted.
template <class Finished, class Train>
std::optional<BenchmarkRunRecord> carry_out(const Plan& plan, std::size_t i, const Finished& finished,
                                            const Train& train) {
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
      if (report.outcome == train::Outcome::interrupted) return std::nullopt;
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
  r.outcome = missing_outcome(run);
  r.outcome.status = failure.empty() ? RunStatus::finished : RunStatus::failed;
  r.outcome.note = failure;
  r.outcome.test_accuracy = r.results.test.accuracy;
  return r;
}

}  // namespace detail

/// Trains the runs of a plan in order, `at_once` at a time. `finished(run)` returns what an earlier session left of a
/// run (std::optional<FinishedRun>), `train(run, label)` trains it (train::RunReport); with several at a time both are
/// called from several threads. A run that fails is recorded and the rest goes on; an interrupted one ends it all.
/// `done` hears of every run as it ends, of one at a time.
/// \throws UsageError of the two functions: what was asked cannot be done, and later runs would fail in the same way.
template <class Finished, class Train>
BenchmarkRecord run_plan(const Plan& plan, const Finished& finished, const Train& train,
                         const std::function<void(const BenchmarkRunRecord&)>& done = {}, Index at_once = 1) {
  std::mutex mutex;
  std::vector<std::optional<BenchmarkRunRecord>> runs(plan.runs.size());
  BenchmarkRecord record;
  train::side_by_side(static_cast<Index>(runs.size()), at_once, [&](Index i) {
    const auto place = static_cast<std::size_t>(i);
    std::optional<BenchmarkRunRecord> run = detail::carry_out(plan, place, finished, train);
    const std::lock_guard lock(mutex);
    runs[place] = std::move(run);
    if (runs[place] && done) done(*runs[place]);
    record.interrupted = record.interrupted || !runs[place];
    return runs[place].has_value();
  });
  while (!runs.empty() && !runs.back()) runs.pop_back();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    record.runs.push_back(runs[i].value_or(BenchmarkRunRecord{}));
    if (!runs[i]) record.runs.back().outcome = detail::missing_outcome(plan.runs[i]);
  }
  return record;
}

/// Outcomes of all planned runs; those that were not done are missing.
inline std::vector<RunOutcome> outcomes(const Plan& plan, const BenchmarkRecord& record) {
  std::vector<RunOutcome> all;
  for (std::size_t i = 0; i < plan.runs.size(); ++i)
    all.push_back(i < record.runs.size() ? record.runs[i].outcome : detail::missing_outcome(plan.runs[i]));
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
