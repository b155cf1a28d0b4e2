// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Time to generate the data of the tasks: baseline datasets whole, and fuzzy recall, whose cost grows with the cube of
// the vocabulary, per instance.
#include <mad/tasks/registry.hpp>

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

namespace {

using mad::tasks::Setting;

/// A whole baseline dataset: training and test half as the benchmark protocol uses them.
void dataset(benchmark::State& state, const Setting& setting) {
  for (auto _ : state) {
    auto data = mad::tasks::generate(setting);
    benchmark::DoNotOptimize(data);
  }
  state.counters["instances"] = static_cast<double>(setting.num_train_examples + setting.num_test_examples);
}

/// One training instance of fuzzy recall, motif sizes 3 and 3. The argument is the vocabulary.
void fuzzy_instance(benchmark::State& state) {
  Setting setting = mad::tasks::FuzzyRecall::baseline();
  setting.vocab_size = state.range(0);
  mad::tasks::validate<mad::tasks::FuzzyRecall>(setting);
  mad::tasks::FuzzyRecall task(setting);
  mad::tasks::Streams streams(setting.seed);
  std::vector<std::int64_t> inputs(static_cast<std::size_t>(setting.seq_len));
  std::vector<std::int64_t> targets(inputs.size());
  for (auto _ : state) {
    task.make(streams, mad::tasks::Mode::train, {inputs, targets});
    benchmark::DoNotOptimize(inputs.data());
    benchmark::ClobberMemory();
  }
}

BENCHMARK(fuzzy_instance)->ArgName("vocab_size")->Arg(16)->Arg(32)->Arg(64)->Arg(128)->Unit(benchmark::kMicrosecond);

[[maybe_unused]] const bool registered = [] {
  for (const mad::tasks::Task& task : mad::tasks::built_in_tasks()) {
    benchmark::RegisterBenchmark(("dataset/" + task.name).c_str(), dataset, task.baseline)
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
