// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Checkpoints: parameters under the reference's names, and with them everything a run needs to go on bit for bit.
#pragma once

#include <mad/core/error.hpp>
#include <mad/models/parameter_info.hpp>
#include <mad/train/optimizer.hpp>
#include <mad/train/safetensors.hpp>
#include <mad/train/state.hpp>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mad::train {

namespace checkpoint_detail {

inline constexpr std::string_view format = "mad-checkpoint-1";
inline constexpr Index metric_columns = 4;

inline void append(std::vector<double>& to, const Metrics& m) {
  to.insert(to.end(), {m.loss, m.accuracy, m.perplexity, m.micro_accuracy});
}
inline Metrics metrics_at(std::span<const double> from, std::size_t i) {
  return {from[i], from[i + 1], from[i + 2], from[i + 3]};
}

}  // namespace checkpoint_detail

/// Writes the parameters alone: a file that the reference can load too.
template <class T>
void save_parameters(const std::filesystem::path& file, std::span<const ParameterInfo> infos, const T* parameters,
                     const std::string& description) {
  SafetensorsWriter writer;
  for (const ParameterInfo& p : infos)
    writer.add(p.name, p.shape, std::span<const T>(parameters + p.offset, static_cast<std::size_t>(p.size)));
  writer.add_text("mad.run", description);
  writer.write(file);
}

/// Reads the parameters of a checkpoint or of any safetensors file with the reference's names. \throws Error naming
/// file and key if one is missing or has another shape; `parameters` may then be partly written.
template <class T>
void load_parameters(const Safetensors& file, std::span<const ParameterInfo> infos, T* parameters) {
  for (const ParameterInfo& p : infos) file.copy_to(p.name, p.shape, parameters + p.offset);
}

/// Writes parameters, moments and state. `description` identifies the run; see `load_checkpoint`.
template <class T>
void save_checkpoint(const std::filesystem::path& file, std::span<const ParameterInfo> infos, const T* parameters,
                     const Optimizer<T>& optimizer, const TrainingState& state, const std::string& description) {
  using checkpoint_detail::append;
  SafetensorsWriter writer;
  for (const ParameterInfo& p : infos)
    writer.add(p.name, p.shape, std::span<const T>(parameters + p.offset, static_cast<std::size_t>(p.size)));
  const auto moment = [&](const char* name, std::span<const T> values) {
    writer.add(name, {static_cast<Index>(values.size())}, values);
  };
  moment("optimizer.first_moment", optimizer.first_moment());
  moment("optimizer.second_moment", optimizer.second_moment());
  std::vector<double> epochs;
  for (const EpochRecord& e : state.epochs) {
    append(epochs, e.train);
    append(epochs, e.test);
    epochs.insert(epochs.end(), {e.rate, e.seconds});
  }
  std::vector<double> batches;
  for (const Metrics& m : state.batches) append(batches, m);
  std::vector<std::int64_t> counters{optimizer.step_count(),
                                     state.steps,
                                     state.schedule.epoch,
                                     state.schedule.reductions,
                                     state.schedule.bad_epochs,
                                     state.early_stop.epochs_without_improvement,
                                     state.best_epoch,
                                     static_cast<std::int64_t>(state.shuffle.state_high),
                                     static_cast<std::int64_t>(state.shuffle.state_low),
                                     static_cast<std::int64_t>(state.shuffle.increment_high),
                                     static_cast<std::int64_t>(state.shuffle.increment_low),
                                     state.shuffle.has_spare ? 1 : 0,
                                     static_cast<std::int64_t>(state.shuffle.spare)};
  std::vector<std::int64_t> sequences(state.batch_sequences.begin(), state.batch_sequences.end());
  std::vector<double> numbers{state.schedule.best_loss, state.early_stop.best_accuracy, state.best_perplexity,
                              state.seconds};
  const auto count = [](const auto& v) { return static_cast<Index>(v.size()); };
  writer.add("training.epochs", {count(epochs)}, epochs);
  writer.add("training.batches", {count(batches)}, batches);
  writer.add("training.batch_sequences", {count(sequences)}, sequences);
  writer.add("training.counters", {count(counters)}, counters);
  writer.add("training.numbers", {count(numbers)}, numbers);
  writer.add_text("mad.format", std::string(checkpoint_detail::format));
  writer.add_text("mad.run", description);
  writer.write(file);
}

/// Reads what `save_checkpoint` wrote. Nothing is changed unless the whole file is good.
/// \throws Error naming the file if it is damaged or belongs to a run with another description.
template <class T>
TrainingState load_checkpoint(const std::filesystem::path& path, std::span<const ParameterInfo> infos, T* parameters,
                              Optimizer<T>& optimizer, const std::string& description) {
  using checkpoint_detail::metrics_at;
  const Safetensors file = Safetensors::read(path);
  const auto damaged = [&](const std::string& what) {
    return Error("checkpoint '" + path.string() + "': " + what +
                 ". Remove the folder of the run to start over, or give another --log-base-path.");
  };
  if (!file.metadata().contains("mad.format") || file.text("mad.format") != checkpoint_detail::format)
    throw damaged("key 'mad.format' is not '" + std::string(checkpoint_detail::format) + "'");
  if (file.text("mad.run") != description)
    throw damaged("it belongs to a run with other settings\nfound    " + file.text("mad.run") + "\nexpected " +
                  description);
  const auto counters = file.values<std::int64_t>("training.counters");
  const auto numbers = file.values<double>("training.numbers");
  const auto epochs = file.values<double>("training.epochs");
  const auto batches = file.values<double>("training.batches");
  const auto sequences = file.values<std::int64_t>("training.batch_sequences");
  constexpr std::size_t columns = checkpoint_detail::metric_columns;
  constexpr std::size_t epoch_columns = 2 * columns + 2;
  if (counters.size() != 13 || numbers.size() != 4 || epochs.size() % epoch_columns != 0 ||
      batches.size() != sequences.size() * columns)
    throw damaged("the arrays 'training.*' have other sizes than they should");
  TrainingState state;
  for (std::size_t i = 0; i < epochs.size(); i += epoch_columns)
    state.epochs.push_back(
        {metrics_at(epochs, i), metrics_at(epochs, i + columns), epochs[i + 2 * columns], epochs[i + 2 * columns + 1]});
  for (std::size_t i = 0; i < batches.size(); i += columns) state.batches.push_back(metrics_at(batches, i));
  state.batch_sequences.assign(sequences.begin(), sequences.end());
  state.steps = counters[1];
  state.schedule = {counters[2], counters[3], counters[4], numbers[0]};
  state.early_stop = {numbers[1], counters[5]};
  state.best_epoch = counters[6];
  state.shuffle = {static_cast<std::uint64_t>(counters[7]),
                   static_cast<std::uint64_t>(counters[8]),
                   static_cast<std::uint64_t>(counters[9]),
                   static_cast<std::uint64_t>(counters[10]),
                   counters[11] != 0,
                   static_cast<std::uint32_t>(counters[12])};
  state.best_perplexity = numbers[2];
  state.seconds = numbers[3];

  const auto first = file.values<T>("optimizer.first_moment");
  const auto second = file.values<T>("optimizer.second_moment");
  std::vector<T> loaded(static_cast<std::size_t>(infos.empty() ? 0 : infos.back().offset + infos.back().size));
  load_parameters(file, infos, loaded.data());
  optimizer.restore(counters[0], first, second);
  std::copy(loaded.begin(), loaded.end(), parameters);
  return state;
}

}  // namespace mad::train
