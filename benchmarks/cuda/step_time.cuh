// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Times the training steps of a stack of width 128.
#pragma once

#include "step_time.hpp"

#include <mad/cuda.hpp>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

namespace mad::benchmark {

template <class Net, class P>
struct Subject {
  static constexpr int vocab_size = 16;
  static constexpr Index steps_per_epoch = 16;
  cuda::Model<P> model;
  std::vector<int> inputs;
  std::vector<int> targets;
  std::unique_ptr<cuda::Training<P>> training;

  Subject(const Case& c, std::uint64_t seed)
      : model(cuda::architecture<LanguageModel<Net, 128>, P>(), {.vocab_size = vocab_size, .max_length = c.length}, seed) {
    std::mt19937 generator(static_cast<unsigned>(seed));
    std::uniform_int_distribution<int> token(0, vocab_size - 1);
    for (Index i = 0; i < steps_per_epoch * c.batch * c.length; ++i) {
      inputs.push_back(token(generator));
      targets.push_back(i % c.length == 0 ? cuda::ignored_target : inputs[static_cast<std::size_t>(i - 1)]);
    }
  }
  void prepare(const Case& c) {
    const cuda::Examples examples{inputs, targets, steps_per_epoch * c.batch, c.length};
    training = std::make_unique<cuda::Training<P>>(model, examples, examples, c.batch,
                                                   cuda::OptimizerSettings{.weight_decay = 0.1});
  }
  void start(std::span<const Index> order) {
    training->start_epoch(order, [](double own) { return own > 0 ? own : 5e-4; });
  }
};

template <class Net, class P>
StepTime measure(const Case& c) {
  using S = Subject<Net, P>;
  std::vector<Index> order(static_cast<std::size_t>(S::steps_per_epoch * c.batch));
  std::iota(order.begin(), order.end(), Index{0});
  std::size_t free_before = 0;
  std::size_t total = 0;
  cuda::Device::open();
  cudaMemGetInfo(&free_before, &total);
  std::vector<std::unique_ptr<S>> subjects;
  for (int m = 0; m < c.models; ++m)
    subjects.push_back(std::make_unique<S>(c, static_cast<std::uint64_t>(m + 1)));
  if (c.once) {
    cuda::BatchOutput out;
    S& s = *subjects[0];
    s.model.gradient({s.inputs.data(), s.targets.data(), c.length, c.length, std::span<const Index>(order).first(static_cast<std::size_t>(c.batch))},
                     out);
    return {.first_loss = out.loss, .last_loss = out.loss};
  }
  StepTime result;
  for (auto& s : subjects) s->prepare(c);
  std::size_t free_after = 0;
  cudaMemGetInfo(&free_after, &total);
  result.memory_bytes = (free_before - free_after) / static_cast<std::size_t>(c.models);
  result.graph_nodes = subjects[0]->training->step_nodes();
  for (int warm_up = 0; warm_up < 2; ++warm_up)
    for (auto& s : subjects) s->start(order);
  for (auto& s : subjects) result.first_loss = s->training->finish().back().loss;

  // One model: graph replays between events.
  S& first = *subjects[0];
  const cudaStream_t stream = first.model.queue().stream();
  std::vector<cudaEvent_t> events(static_cast<std::size_t>(S::steps_per_epoch + 1));
  for (cudaEvent_t& e : events) cuda::check(cudaEventCreate(&e), "create an event");
  std::vector<double> times;
  while (static_cast<int>(times.size()) < c.repeat) {
    first.training->begin_epoch(order, [](double own) { return own > 0 ? own : 5e-4; });
    cudaEventRecord(events[0], stream);
    for (Index b = 0; b < S::steps_per_epoch; ++b) {
      first.training->start_step(b);
      cudaEventRecord(events[static_cast<std::size_t>(b + 1)], stream);
    }
    cuda::check(cudaEventSynchronize(events.back()), "wait for the steps");
    for (std::size_t b = 0; b < S::steps_per_epoch; ++b) {
      float milliseconds = 0;
      cudaEventElapsedTime(&milliseconds, events[b], events[b + 1]);
      times.push_back(milliseconds);
    }
  }
  std::sort(times.begin(), times.end());
  result.milliseconds = times[times.size() / 2];
  for (cudaEvent_t e : events) cudaEventDestroy(e);

  // All models: the host starts steps and waits at the end.
  const auto begin = std::chrono::steady_clock::now();
  const int epochs = std::max(1, c.repeat / static_cast<int>(S::steps_per_epoch));
  for (int e = 0; e < epochs; ++e)
    for (auto& s : subjects) s->start(order);
  for (auto& s : subjects) result.last_loss = s->training->finish().back().loss;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.steps_per_second = static_cast<double>(epochs * S::steps_per_epoch) * c.models / seconds;
  return result;
}

template <class Net>
Measure find(const std::string& precision) {
  if (precision == "fp32") return &measure<Net, cuda::Exact>;
  if (precision == "bf16") return &measure<Net, cuda::Mixed>;
  return nullptr;
}

}  // namespace mad::benchmark
