// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One call from a model type and a task to a trained model's numbers.
#pragma once

#include <mad/core/message.hpp>
#include <mad/cpu/model.hpp>
#include <mad/tasks/dataset.hpp>
#include <mad/tasks/registry.hpp>
#include <mad/train/trainer.hpp>

namespace mad {

/// Trains a fresh model of type `M` (a LanguageModel or AutoEncoder) on `task` in `setting`, in memory: nothing is read
/// or written. `max_length` is the length of the task's rows, as in the benchmark. The data, the initial weights and
/// the order of the examples come from `setting.seed`; `threads` (0: all of the machine) changes no result. \throws
/// UsageError if the setting is impossible or the task needs another backbone.
template <class M>
train::RunReport train_on(const tasks::Task& task, const tasks::Setting& setting, train::TrainSettings settings = {},
                          int threads = 0) {
  if (task.auto_encoder != (M::backbone == Backbone::auto_encoder))
    throw UsageError(message({"task '", task.name, "' needs ", task.auto_encoder ? "an AutoEncoder" : "a LanguageModel",
                              " around the stack"}));
  const tasks::Dataset data = task.generate(setting);
  const tasks::CompactExamples train_set = tasks::compact(data.train);
  const tasks::CompactExamples test_set = tasks::compact(data.test);
  cpu::Threads workers(threads);
  cpu::Model<float> model(cpu::architecture<M, float>(),
                          {.vocab_size = static_cast<Index>(setting.vocab_size), .max_length = train_set.columns},
                          setting.seed, workers);
  settings.seed = setting.seed;
  return train::Trainer<cpu::Model<float>>(model, train_set, test_set, settings).run();
}

/// The same for a built-in task, `setting.task`.
template <class M>
train::RunReport train_on(const tasks::Setting& setting, const train::TrainSettings& settings = {}, int threads = 0) {
  return train_on<M>(tasks::find_task(setting.task), setting, settings, threads);
}

}  // namespace mad
