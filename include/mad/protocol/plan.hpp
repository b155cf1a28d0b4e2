// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a benchmark trains, in order: the full protocol of the paper, and a quick one of minutes.
#pragma once

#include <mad/protocol/settings.hpp>
#include <mad/train/settings.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace mad::protocol {

/// One training of a plan.
struct PlannedRun {
  tasks::Setting setting;
  std::string label;  ///< the difficulty: `baseline`, or what differs from it
  train::TrainSettings training;
};

/// The runs of a benchmark in order of training.
struct Plan {
  std::string name;
  std::string summary;  ///< one or two sentences for the report
  std::vector<PlannedRun> runs;
};

/// The protocol of the paper: 66 settings on a grid of 6 learning rates and weight decays, 396 runs of up to 200
/// epochs.
inline Plan full_plan(train::Fidelity fidelity) {
  Plan plan{.name = "full",
            .summary =
                "The whole protocol: 66 settings of six tasks, each on a grid of 3 learning rates and 2 weight "
                "decays. A setting counts with its best run, a task with the mean of its settings.",
            .runs = {}};
  const std::vector<BenchmarkSetting> settings = benchmark_settings();
  for (const BenchmarkRun& run : benchmark_runs()) {
    const BenchmarkSetting& s = settings[static_cast<std::size_t>(run.setting)];
    const GridPoint point = grid[static_cast<std::size_t>(run.point)];
    train::TrainSettings training;
    training.learning_rate = point.learning_rate;
    training.weight_decay = point.weight_decay;
    training.seed = s.setting.seed;
    training.fidelity = fidelity;
    plan.runs.push_back({s.setting, s.label(), training});
  }
  return plan;
}

/// Six small tasks, one run each: a few minutes on two cores for four layers of width 64. Small enough to be quick,
/// hard enough that an architecture which cannot mix tokens, or cannot recall, shows it.
inline Plan quick_plan(train::Fidelity fidelity) {
  Plan plan{.name = "quick",
            .summary =
                "Small settings of the six tasks, one run each. Good for a first look at a design; scores of "
                "papers come from the full protocol.",
            .runs = {}};
  const auto add = [&](std::string_view task, Index epochs, Index batch_size, double rate, auto change) {
    PlannedRun run;
    run.setting.task = task;
    run.setting.seq_len = 32;
    run.setting.num_train_examples = 3200;
    run.setting.num_test_examples = 256;
    change(run.setting);
    run.label = "quick";
    run.training.epochs = epochs;
    run.training.batch_size = batch_size;
    run.training.learning_rate = rate;
    run.training.seed = run.setting.seed;
    run.training.fidelity = fidelity;
    plan.runs.push_back(std::move(run));
  };
  using tasks::Setting;
  add("in-context-recall", 12, 32, 1e-3, [](Setting&) {});
  add("noisy-in-context-recall", 12, 32, 1e-3, [](Setting& s) {
    s.vocab_size = 24;
    s.frac_noise = 0.2;
    s.noise_vocab_size = 8;
  });
  add("fuzzy-in-context-recall", 12, 32, 1e-3, [](Setting& s) {
    s.seq_len = 64;
    s.num_train_examples = 6400;
    s.k_motif_size = s.v_motif_size = 2;
  });
  add("memorization", 40, 16, 2e-3, [](Setting& s) {
    s.vocab_size = 256;
    s.num_train_examples = 256;
  });
  add("compression", 16, 32, 1e-3, [](Setting& s) { s.seq_len = 16; });
  add("selective-copying", 12, 32, 1e-3, [](Setting& s) { s.num_tokens_to_copy = 4; });
  return plan;
}

}  // namespace mad::protocol
