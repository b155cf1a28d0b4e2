// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Whole models of the reference on the device: logits, loss, every gradient, and steps of training.
#include "golden.hpp"

#include "comparison.hpp"
#include "models/golden_model.hpp"

using namespace mad;
using namespace mad::testing;

namespace {

TokenRows rows_of(const train::Safetensors& file) {
  const std::vector<Index> shape = file.shape("inputs");
  return {.rows = shape[0],
          .length = shape[1],
          .inputs = mad::testing::tokens(file, "inputs"),
          .targets = mad::testing::tokens(file, "targets")};
}

/// All parameters of a fixture in the order of the layout.
template <class T>
std::vector<T> parameters_of(const train::Safetensors& file, const ParameterLayout& layout, const std::string& prefix) {
  std::vector<T> all(static_cast<std::size_t>(layout.size));
  for (const ParameterInfo& p : layout.infos) {
    const std::vector<double> values = file.values<double>(prefix + p.name);
    std::transform(values.begin(), values.end(), all.begin() + p.offset, [](double v) { return static_cast<T>(v); });
  }
  return all;
}

template <class Type>
void compare_with(const std::string& name, const ModelOptions& options,
                  double bf16_tolerance = Comparison{}.bf16_tolerance) {
  if (no_device()) return;
  INFO("fixture " << name);
  const train::Safetensors file = fixture(name);
  const ParameterLayout layout = make_layout(cpu::architecture<Type, double>(), options);
  const TokenRows rows = rows_of(file);
  const std::vector<double> gradients = parameters_of<double>(file, layout, "grad.");
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    INFO((precision == Precision::exact ? "fp32" : "bf16"));
    const double tolerance = precision == Precision::exact ? 2e-5 : bf16_tolerance;
    const auto device = make_device_model_of<Type>(precision, options, 1);
    device->set_parameters(parameters_of<float>(file, layout, "param."));
    device->poison(true);
    for (const Index micro_batch : {rows.rows, rows.rows - 1}) {
      device->use_micro_batches(micro_batch);
      const DeviceResult found = device->gradient(rows);
      CHECK(found.loss == Approx(file.values<double>("loss")[0]).epsilon(tolerance));
      check_gradients(found.gradients, gradients, layout, precision, tolerance);
      if (micro_batch == rows.rows)
        CHECK(distance<float, double>(found.logits, file.values<double>("logits")) < tolerance);
    }
  }
}

/// Steps of training in one epoch, then the parameters.
template <class Type>
void compare_trace(const std::string& name, const ModelOptions& options, TrainingRecipe recipe) {
  if (no_device()) return;
  INFO("fixture " << name);
  const train::Safetensors file = fixture(name);
  const ParameterLayout layout = make_layout(cpu::architecture<Type, double>(), options);
  const std::vector<Index> shape = file.shape("inputs");  // (batches, rows, length)
  const TokenRows rows{.rows = shape[0] * shape[1],
                       .length = shape[2],
                       .inputs = mad::testing::tokens(file, "inputs"),
                       .targets = mad::testing::tokens(file, "targets")};
  const std::vector<double> losses = file.values<double>("losses");
  recipe.batch_size = shape[1];
  const auto device = make_device_model_of<Type>(Precision::exact, options, 1);
  device->set_parameters(parameters_of<float>(file, layout, "param_init."));
  std::vector<Index> order(static_cast<std::size_t>(rows.rows));
  std::iota(order.begin(), order.end(), Index{0});
  REQUIRE(static_cast<Index>(losses.size()) % shape[0] == 0);
  const std::vector<std::vector<Index>> orders(losses.size() / static_cast<std::size_t>(shape[0]), order);
  const std::vector<double> found = device->train(rows, rows, recipe, orders);
  for (std::size_t step = 0; step < losses.size(); ++step) {
    INFO("step " << step);
    CHECK(found[step] == Approx(losses[step]).epsilon(2e-5));
  }
  CHECK(found[losses.size() + (losses.size() - 1) % static_cast<std::size_t>(shape[0])] ==
        Approx(file.values<double>("losses_after").back()).epsilon(2e-5));
}

}  // namespace

TEST_CASE("the reference's language models on the device") {
  compare_with<golden::Hybrid>("lm_attention-swiglu-hyena-swiglu_d16_l24", {.vocab_size = 16, .max_length = 24});
  compare_with<golden::HybridRms>("lm_attention-swiglu-hyena-swiglu_rms_maxlen32_d16_l7",
                                  {.vocab_size = 16, .max_length = 32});
  compare_with<golden::TwoMambas>("lm_mamba-mamba_d32_l24", {.vocab_size = 16, .max_length = 24});
  compare_with<golden::Experts>("lm_mh-hyena-moe-attention-moe_d16_l24", {.vocab_size = 16, .max_length = 24});
  compare_with<golden::Rwkv6>("lm_rwkv6_d16_l24", {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("the reference's position embeddings on the device") {
  compare_with<golden::Positioned>("lm_learnedpos_d16_l7",
                                   {.vocab_size = 16, .max_length = 24, .positions = Positions::learned});
  compare_with<golden::Positioned>("lm_sincospos_d16_l7",
                                   {.vocab_size = 16, .max_length = 24, .positions = Positions::sinusoidal});
}

TEST_CASE("the reference's auto-encoders on the device") {
  compare_with<golden::AttentionEncoder>("ae_attention-swiglu_avg_d16_l7",
                                         {.vocab_size = 16, .max_length = 7, .pooling = Pooling::average});
  compare_with<golden::AttentionEncoder>("ae_attention-swiglu_cls_d16_l24",
                                         {.vocab_size = 16, .max_length = 24, .pooling = Pooling::cls});
  compare_with<golden::WiderAttentionEncoder>("ae_attention-swiglu_last_d32_l24", {.vocab_size = 16, .max_length = 24});
  // Two rows of 16 numbers, those of the class tokens, carry everything: nothing averages their rounding.
  compare_with<golden::HyenaEncoderRms>("ae_hyena-swiglu_cls_d16_l7",
                                        {.vocab_size = 16, .max_length = 7, .pooling = Pooling::cls}, 3e-2);
  compare_with<golden::HyenaEncoder>("ae_hyena-swiglu_last_d16_l24", {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("the reference's steps of training on the device") {
  const TrainingRecipe adamw{.learning_rate = 5e-4, .weight_decay = 0.1};
  compare_trace<golden::TracedAttention>("trace_attention-swiglu_d32", {.vocab_size = 16, .max_length = 12}, adamw);
  compare_trace<golden::TracedHyenaMamba>("trace_hyena-mamba_d32", {.vocab_size = 16, .max_length = 12}, adamw);
  compare_trace<golden::TracedExperts>("trace_sgd_attention-moe_d16", {.vocab_size = 16, .max_length = 12},
                                       {.learning_rate = 0.05, .weight_decay = 0.01, .adamw = false});
}
