// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Compares whole models with fixtures of the reference: logits, loss, every gradient, and steps of training.
#pragma once

#include <mad/cpu/model.hpp>
#include <mad/train/optimizer.hpp>
#include <mad/train/safetensors.hpp>

#include <catch.hpp>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace mad::testing {

inline train::Safetensors fixture(const std::string& name) {
  return train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/" + name + ".safetensors");
}

inline double relative_error(const double* a, const std::vector<double>& b, double floor) {
  double error = 0;
  double scale = floor;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error = std::isfinite(a[i]) ? std::max(error, std::abs(a[i] - b[i])) : INFINITY;
    scale = std::max(scale, std::abs(b[i]));
  }
  return scale == 0 ? (error == 0 ? 0 : INFINITY) : error / scale;
}

inline std::vector<int> tokens(const train::Safetensors& file, const std::string& key) {
  const auto view = file.view<std::int64_t>(key);
  return std::vector<int>(view.begin(), view.end());
}

inline void load(cpu::Model<double>& model, const train::Safetensors& file, const std::string& prefix) {
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

}  // namespace mad::testing
