// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The device as the trainer sees it (train/accelerator.hpp): a model, and a run of it.
#pragma once

#include <mad/cuda/training.cuh>
#include <mad/train/accelerator.hpp>

#include <array>
#include <memory>

namespace mad::cuda {

/// A place in a stream. Waiting for it leaves the processor to others.
class Milestone {
public:
  Milestone() {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync), "create an event");
  }
  Milestone(const Milestone&) = delete;
  Milestone& operator=(const Milestone&) = delete;
  ~Milestone() { cudaEventDestroy(event_); }

  void set(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "mark a place in a stream"); }
  /// Returns at once if it was never set.
  void wait() const { check(cudaEventSynchronize(event_), "wait for the device"); }

private:
  cudaEvent_t event_ = nullptr;
};

/// Places in a stream and the time between them.
class Laps {
public:
  Laps() = default;
  Laps(const Laps&) = delete;
  Laps& operator=(const Laps&) = delete;
  ~Laps() {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }

  /// Ends a lap of \p steps steps; 0 for the place where the first one begins.
  void mark(cudaStream_t stream, Index steps) {
    if (laps_.size() == events_.size()) {
      events_.push_back(nullptr);
      check(cudaEventCreate(&events_.back()), "create an event");
    }
    check(cudaEventRecord(events_[laps_.size()], stream), "mark a place in a stream");
    laps_.push_back(steps);
  }
  bool empty() const { return laps_.empty(); }
  /// Milliseconds of every step, in order, once the stream has passed the last place; begins anew.
  std::vector<double> of_steps() {
    std::vector<double> times;
    for (std::size_t i = 1; i < laps_.size(); ++i) {
      float taken = 0;
      check(cudaEventElapsedTime(&taken, events_[i - 1], events_[i]), "time steps");
      times.insert(times.end(), static_cast<std::size_t>(laps_[i]), taken / static_cast<double>(laps_[i]));
    }
    laps_.clear();
    return times;
  }

private:
  std::vector<cudaEvent_t> events_;
  std::vector<Index> laps_;  ///< steps of the laps that end at the events
};

/// `Training` under the trainer's protocol.
template <class P>
class RunOf final : public train::DeviceRun {
public:
  RunOf(Model<P>& model, const train::ExampleSpan& train, const train::ExampleSpan& test, Index batch_size,
        const train::OptimizerSettings& settings)
      : model_(model),
        rows_{train.rows, test.rows},
        training_(model, {train.inputs, train.targets, train.rows, train.columns},
                  {test.inputs, test.targets, test.rows, test.columns}, batch_size, settings_of(settings)),
        best_(model.device_layout().size, "the best parameters") {}

  void begin_epoch(std::span<const Index> order, const train::Schedule& schedule, Index first) override {
    finish();
    training_.begin_epoch(
        order, [&](double own) { return own > 0 ? schedule.rate(own) : schedule.rate(); }, first);
    next_ = first;
  }

  Index start_steps() override {
    model_.device().use();
    const Index before = next_;
    if (timed_ && laps_.empty()) laps_.mark(stream(), 0);
    next_ += training_.start_steps(before);
    if (timed_) laps_.mark(stream(), next_ - before);
    for (Index b = before; b < next_; ++b) sequences_.push_back(training_.sequences(rows_[0], b));
    if (next_ / pace == before / pace) return next_ - before;
    // The host runs ahead of the device, but not so far that it could no longer stop it.
    Milestone& milestone = milestones_[static_cast<std::size_t>(next_ / pace % 2)];
    milestone.wait();
    milestone.set(stream());
    return next_ - before;
  }

  void start_evaluation(train::Half half) override {
    const bool of_test = half == train::Half::test;
    const Index rows = rows_[of_test ? 1 : 0];
    if (!of_test) finish();
    training_.start_evaluation(of_test);
    for (Index b = 0; b < training_.batches(rows); ++b) sequences_.push_back(training_.sequences(rows, b));
  }

  void time_steps() override { timed_ = true; }

  std::vector<train::BatchResult> finish() override {
    model_.device().use();
    if (!sequences_.empty()) {
      milestones_[0].set(stream());
      milestones_[0].wait();
    }
    const std::vector<StepMetrics> metrics = training_.finish();
    const std::vector<double> times = laps_.of_steps();  // an evaluation's batches come behind the steps
    std::vector<train::BatchResult> results;
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      const StepMetrics& m = metrics[i];
      results.push_back({.metrics = {m.loss, m.accuracy, m.perplexity, m.micro_accuracy},
                         .counted = m.counted,
                         .sequences = sequences_[i],
                         .milliseconds = i < times.size() ? times[i] : 0});
    }
    sequences_.clear();
    return results;
  }

  void keep_best() override { copy(model_.parameter_data(), best_.data()); }
  void return_to_best() override {
    copy(best_.data(), model_.parameter_data());
    model_.round_parameters();
  }

  void read(train::RunNumbers& to) override {
    to.parameters = model_.parameters();
    to.best = pack_together(best_.download(stream()), model_.layout(), model_.device_layout());
    Moments moments = training_.moments();
    to.steps = moments.steps;
    to.first_moment = std::move(moments.first);
    to.second_moment = std::move(moments.second);
  }
  void write(const train::RunNumbers& from) override {
    model_.set_parameters(from.parameters);
    best_.upload(spread_out(from.best, model_.layout(), model_.device_layout()), stream());
    training_.set_moments({from.first_moment, from.second_moment, from.steps});
  }

private:
  static constexpr Index pace = 64;  ///< steps between milestones

  static OptimizerSettings settings_of(const train::OptimizerSettings& s) {
    return {.adamw = s.kind == train::OptimizerKind::adamw,
            .weight_decay = s.weight_decay,
            .beta1 = s.beta1,
            .beta2 = s.beta2,
            .epsilon = s.epsilon,
            .honour_marks = s.fidelity == train::Fidelity::intended};
  }

  cudaStream_t stream() { return model_.queue().stream(); }
  void copy(const float* from, float* to) {
    model_.device().use();
    check(cudaMemcpyAsync(to, from, best_.bytes(), cudaMemcpyDeviceToDevice, stream()), "copy the parameters");
  }

  Model<P>& model_;
  std::array<Index, 2> rows_;  ///< examples of the two halves
  Training<P> training_;
  Buffer<float> best_;
  Index next_ = 0;                ///< batch of the epoch
  std::vector<Index> sequences_;  ///< in the batches that were started
  std::array<Milestone, 2> milestones_;
  bool timed_ = false;
  Laps laps_;
};

/// A model under the trainer's protocol.
template <class P>
class DeviceModelOf final : public train::DeviceModel {
public:
  DeviceModelOf(Architecture<P> architecture, const train::ModelRequest& request, int device)
      : model_(std::move(architecture), request.options, request.seed, device) {
    model_.use_micro_batches(request.micro_batch);
  }

  const ParameterLayout& layout() const override { return model_.layout(); }
  std::vector<float> parameters() const override { return model_.parameters(); }
  void set_parameters(std::span<const float> values) override { model_.set_parameters(values); }
  std::unique_ptr<train::DeviceRun> begin(const train::ExampleSpan& train, const train::ExampleSpan& test,
                                          Index batch_size, const train::OptimizerSettings& settings) override {
    model_.device().use();
    return std::make_unique<RunOf<P>>(model_, train, test, batch_size, settings);
  }

private:
  Model<P> model_;
};

}  // namespace mad::cuda
