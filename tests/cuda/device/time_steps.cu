// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "device_model.cuh"
#include "time_steps.hpp"

#include <mad/layers/mlp.hpp>

#include <numeric>

namespace mad::testing {

StepTimes run_on_device(bool timed, const TokenRows& train, const TokenRows& test, Index batch, int epochs) {
  using Type = LanguageModel<Stack<Mlp>, 32, Norm::layer_norm>;
  cuda::Model<cuda::Mixed> model(cuda::architecture<Type, cuda::Mixed>(),
                                 {.vocab_size = 16, .max_length = train.length}, 1);
  const auto span = [](const TokenRows& r) { return train::ExampleSpan{r.inputs, r.targets, r.rows, r.length}; };
  cuda::RunOf<cuda::Mixed> run(model, span(train), span(test), batch, {});
  if (timed) run.time_steps();
  const train::Schedule schedule({.kind = train::ScheduleKind::constant, .learning_rate = 1e-3});
  std::vector<Index> order(static_cast<std::size_t>(train.rows));
  std::iota(order.begin(), order.end(), Index{0});
  StepTimes found;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    run.begin_epoch(order, schedule, 0);
    for (Index step = 0; step < (train.rows + batch - 1) / batch;) step += run.start_steps();
    if (epoch == 0) run.start_evaluation(train::Half::test);
    for (const train::BatchResult& r : run.finish()) {
      found.losses.push_back(r.metrics.loss);
      found.milliseconds.push_back(r.milliseconds);
    }
  }
  return found;
}

}  // namespace mad::testing
