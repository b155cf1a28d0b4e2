// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Where a training run stands, how it ends, and what keeps it beyond the memory of the process.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/random/pcg64.hpp>
#include <mad/train/early_stop.hpp>
#include <mad/train/metrics.hpp>
#include <mad/train/optimizer.hpp>
#include <mad/train/schedule.hpp>

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mad::train {

/// What was measured in one epoch.
struct EpochRecord {
  Metrics train;
  Metrics test;
  double rate = 0;     ///< learning rate
  double seconds = 0;  ///< training and evaluation
};

/// Where a run stands, besides its parameters and the optimiser's moments.
struct TrainingState {
  std::vector<EpochRecord> epochs;     ///< complete ones
  std::vector<Metrics> batches;        ///< of the epoch that has begun, in order
  std::vector<Index> batch_sequences;  ///< sequences in each of them
  random::Pcg64State shuffle;          ///< generator before the order of this epoch was drawn
  Schedule::State schedule;
  EarlyStop::State early_stop;
  double best_perplexity = std::numeric_limits<double>::infinity();
  Index best_epoch = -1;
  Index steps = 0;
  double seconds = 0;  ///< of all sessions
};

/// The final numbers of a run. Accuracies are macro accuracies (`Metrics::accuracy`).
struct Results {
  Metrics train;
  Metrics test;
};

/// How a run ended.
enum class Outcome {
  finished,     ///< all epochs, or stopped early by a rule
  interrupted,  ///< by a signal; saved, can be resumed
  diverged,     ///< the loss or the accuracy was no finite number
};

constexpr std::string_view name(Outcome outcome) {
  switch (outcome) {
    case Outcome::finished:
      return "finished";
    case Outcome::interrupted:
      return "interrupted";
    case Outcome::diverged:
      return "diverged";
  }
  return "";
}

/// What came of a run.
struct RunReport {
  Outcome outcome = Outcome::finished;
  StopReason stop = StopReason::none;
  Results results;                  ///< of the weights with the smallest test perplexity
  std::vector<EpochRecord> epochs;  ///< learning curve
  Index best_epoch = -1;
  Index steps = 0;
  double seconds = 0;
  std::string message;  ///< for a person: why it stopped, how to go on
};

/// Keeps a run: asked when it begins, told after every epoch and at the end. The trainer itself knows no files.
template <class T>
class RunStore {
public:
  /// Everything a run consists of at one moment; `best` are the parameters with the smallest test perplexity so far.
  struct View {
    TrainingState& state;
    std::span<T> parameters;
    std::span<T> best;
    Optimizer<T>& optimizer;
    bool current = true;    ///< false: the numbers are still on their device, only `state` can be kept
    bool new_best = false;  ///< `best` is not what the last current view showed
  };

  virtual ~RunStore() = default;
  /// Fills in what was kept of the run. Returns false if there is nothing: the run then begins.
  virtual bool restore(const View& run) = 0;
  /// After an epoch. `better` is `run.new_best`; `last_batch`: of the training set.
  virtual void end_epoch(const View& run, bool better, const Metrics& last_batch) = 0;
  /// After a signal, in the middle of an epoch. Returns what a person should know about going on.
  virtual std::string interrupted(const View& run, const RunReport& report) = 0;
  /// After the end, or after a loss that was no finite number.
  virtual void ended(const RunReport& report) = 0;
};

}  // namespace mad::train
