// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Whole models against the reference: logits, loss, every gradient, and twenty steps of training.
#include <mad/cpu/model.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/train/optimizer.hpp>
#include <mad/train/safetensors.hpp>

#include <catch.hpp>
#include <cmath>
#include <numeric>
#include <string>

namespace mad {

namespace {

train::Safetensors fixture(const std::string& name) {
  return train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/" + name + ".safetensors");
}

double relative_error(const double* a, const std::vector<double>& b, double floor) {
  double error = 0;
  double scale = floor;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error = std::isfinite(a[i]) ? std::max(error, std::abs(a[i] - b[i])) : INFINITY;
    scale = std::max(scale, std::abs(b[i]));
  }
  return error / scale;
}

std::vector<int> tokens(const train::Safetensors& file, const std::string& key) {
  const auto view = file.view<std::int64_t>(key);
  return std::vector<int>(view.begin(), view.end());
}

void load(cpu::Model<double>& model, const train::Safetensors& file, const std::string& prefix) {
  for (const ParameterInfo& p : model.layout().infos)
    file.copy_to(prefix + p.name, p.shape, model.parameters() + p.offset);
}

template <class M>
void check_model(const std::string& name, ModelOptions options) {
  INFO("fixture " << name);
  const auto file = fixture(name);
  cpu::Threads threads(2);
  cpu::Model<double> model(cpu::architecture<M, double>(), options, 1, threads);
  load(model, file, "param.");
  const auto inputs = tokens(file, "inputs");
  const auto targets = tokens(file, "targets");
  std::vector<Index> rows(static_cast<std::size_t>(file.shape("inputs")[0]));
  std::iota(rows.begin(), rows.end(), Index{0});
  const cpu::Batch batch{inputs.data(), targets.data(), file.shape("inputs")[1], file.shape("targets")[1], rows};
  const auto logits = model.logits(batch);
  CHECK(relative_error(logits.data(), file.values<double>("logits"), 1) < 1e-9);
  cpu::BatchOutput<double> out;
  model.gradient(batch, out);
  CHECK(std::abs(out.loss - file.values<double>("loss")[0]) < 1e-9);
  for (const ParameterInfo& p : model.layout().infos) {
    INFO("gradient of " << p.name);
    CHECK(relative_error(model.gradients() + p.offset, file.values<double>("grad." + p.name), 0) < 1e-9);
  }
}

template <class M>
void check_trace(const std::string& name, ModelOptions options, train::OptimizerSettings settings, double rate) {
  INFO("fixture " << name);
  const auto file = fixture(name);
  cpu::Threads threads(2);
  cpu::Model<double> model(cpu::architecture<M, double>(), options, 1, threads);
  load(model, file, "param_init.");
  train::Optimizer<double> optimizer(settings, model.layout().infos);
  const auto inputs = tokens(file, "inputs");
  const auto targets = tokens(file, "targets");
  const std::vector<Index> shape = file.shape("inputs");
  const auto losses = file.values<double>("losses");
  const auto after = file.values<double>("losses_after");
  cpu::BatchOutput<double> out;
  for (std::size_t step = 0; step < losses.size(); ++step) {
    std::vector<Index> rows(static_cast<std::size_t>(shape[1]));
    std::iota(rows.begin(), rows.end(), static_cast<Index>(step) % shape[0] * shape[1]);
    const cpu::Batch batch{inputs.data(), targets.data(), shape[2], shape[2], rows};
    model.gradient(batch, out);
    CHECK(std::abs(out.loss - losses[step]) < 1e-9);
    optimizer.step(model.parameters(), model.gradients(), rate);
    model.evaluate(batch, out);
    CHECK(std::abs(out.loss - after[step]) < 1e-9);
  }
  for (const ParameterInfo& p : model.layout().infos) {
    INFO("final value of " << p.name);
    CHECK(relative_error(model.parameters() + p.offset, file.values<double>("param_final." + p.name), 1) < 1e-9);
  }
}

}  // namespace

using Heads4 = Attention<AttentionOptions{.heads = 4}>;
using SmallHyena = HyenaLayer<HyenaOptions{.inner_factor = 2}>;

TEST_CASE("language models agree with the reference") {
  check_model<LanguageModel<Stack<Heads4, SwiGLU, SmallHyena, SwiGLU>, 16>>("lm_attention-swiglu-hyena-swiglu_d16_l24",
                                                                            {.vocab_size = 16, .max_length = 24});
  check_model<LanguageModel<Stack<Heads4, SwiGLU, SmallHyena, SwiGLU>, 16, Norm::rms_norm>>(
      "lm_attention-swiglu-hyena-swiglu_rms_maxlen32_d16_l7", {.vocab_size = 16, .max_length = 32});
  check_model<LanguageModel<Repeat<2, Mamba>, 32, Norm::rms_norm>>("lm_mamba-mamba_d32_l24",
                                                                   {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("position embeddings agree with the reference") {
  using M = LanguageModel<Stack<Heads4, SwiGLU>, 16>;
  check_model<M>("lm_learnedpos_d16_l7", {.vocab_size = 16, .max_length = 24, .positions = Positions::learned});
  check_model<M>("lm_sincospos_d16_l7", {.vocab_size = 16, .max_length = 24, .positions = Positions::sinusoidal});
}

TEST_CASE("auto-encoders agree with the reference") {
  using A = Stack<Heads4, SwiGLU>;
  using H = Stack<SmallHyena, SwiGLU>;
  check_model<AutoEncoder<A, 16, Norm::layer_norm>>("ae_attention-swiglu_avg_d16_l7",
                                                    {.vocab_size = 16, .max_length = 7, .pooling = Pooling::average});
  check_model<AutoEncoder<A, 16, Norm::layer_norm>>("ae_attention-swiglu_cls_d16_l24",
                                                    {.vocab_size = 16, .max_length = 24, .pooling = Pooling::cls});
  check_model<AutoEncoder<A, 32, Norm::rms_norm>>("ae_attention-swiglu_last_d32_l24",
                                                  {.vocab_size = 16, .max_length = 24});
  check_model<AutoEncoder<H, 16, Norm::rms_norm>>("ae_hyena-swiglu_cls_d16_l7",
                                                  {.vocab_size = 16, .max_length = 7, .pooling = Pooling::cls});
  check_model<AutoEncoder<H, 16, Norm::layer_norm>>("ae_hyena-swiglu_last_d16_l24",
                                                    {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("twenty steps of training agree with the reference") {
  const train::OptimizerSettings adamw{.weight_decay = 0.1};
  check_trace<LanguageModel<Stack<Heads4, SwiGLU>, 32>>("trace_attention-swiglu_d32",
                                                        {.vocab_size = 16, .max_length = 12}, adamw, 5e-4);
  check_trace<LanguageModel<Stack<Hyena, Mamba>, 32>>("trace_hyena-mamba_d32", {.vocab_size = 16, .max_length = 12},
                                                      adamw, 5e-4);
}

}  // namespace mad
