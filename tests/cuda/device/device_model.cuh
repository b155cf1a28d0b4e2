// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The other side of device_model.hpp, for .cu files.
#pragma once

#include "device_model.hpp"

#include <mad/cuda.hpp>

namespace mad::testing {

template <class P>
class DeviceModelOf final : public DeviceModel {
public:
  DeviceModelOf(cuda::Architecture<P> architecture, const ModelOptions& options, std::uint64_t seed)
      : model_(std::move(architecture), options, seed) {}

  std::vector<float> parameters() const override { return model_.parameters(); }
  void set_parameters(std::span<const float> values) override { model_.set_parameters(values); }
  void poison(bool on) override { model_.poison(on); }
  void use_micro_batches(Index sequences) override { model_.use_micro_batches(sequences); }

  DeviceResult gradient(const TokenRows& rows) override {
    std::vector<Index> all(static_cast<std::size_t>(rows.rows));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Index>(i);
    cuda::BatchOutput out;
    model_.gradient({rows.inputs.data(), rows.targets.data(), rows.length, rows.target_length(), all}, out);
    return {.loss = out.loss,
            .accuracy = out.metrics.accuracy,
            .micro_accuracy = out.metrics.micro_accuracy,
            .logits = model_.logits(),
            .gradients = model_.gradients(),
            .negative_log_likelihood = out.negative_log_likelihood,
            .predictions = out.predictions};
  }

  std::vector<double> train(const TokenRows& train, const TokenRows& test, const TrainingRecipe& recipe,
                            const std::vector<std::vector<Index>>& orders) override {
    const auto examples = [](const TokenRows& r) { return cuda::Examples{r.inputs, r.targets, r.rows, r.length}; };
    model_.use_micro_batches(recipe.micro_batch);
    cuda::Training<P> training(
        model_, examples(train), examples(test), recipe.batch_size,
        {.adamw = recipe.adamw, .weight_decay = recipe.weight_decay, .honour_marks = recipe.honour_marks});
    std::vector<double> losses;
    const auto keep = [&](const std::vector<cuda::StepMetrics>& metrics) {
      for (const cuda::StepMetrics& m : metrics) losses.push_back(m.loss);
    };
    for (const std::vector<Index>& order : orders) {
      training.start_epoch(order, [&](double own) { return own > 0 ? own : recipe.learning_rate; });
      keep(training.finish());
    }
    training.start_evaluation(true);
    keep(training.finish());
    return losses;
  }

private:
  cuda::Model<P> model_;
};

template <class Type>
std::unique_ptr<DeviceModel> make_device_model_of(Precision precision, const ModelOptions& options,
                                                  std::uint64_t seed) {
  if (precision == Precision::exact)
    return std::make_unique<DeviceModelOf<cuda::Exact>>(cuda::architecture<Type, cuda::Exact>(), options, seed);
  return std::make_unique<DeviceModelOf<cuda::Mixed>>(cuda::architecture<Type, cuda::Mixed>(), options, seed);
}

template <class Net, int Width, Norm N>
std::unique_ptr<DeviceModel> make_device_model(Precision precision, const ModelOptions& options, std::uint64_t seed) {
  return make_device_model_of<LanguageModel<Net, Width, N>>(precision, options, seed);
}

}  // namespace mad::testing
