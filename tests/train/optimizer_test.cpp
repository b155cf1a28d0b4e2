// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/optimizer.hpp>
#include <mad/train/safetensors.hpp>

#include "catch.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using mad::ParameterInfo;
using namespace mad::train;

namespace {

/// Parameters one after the other, named by their number.
std::vector<ParameterInfo> parameters_of(const std::vector<Index>& sizes) {
  std::vector<ParameterInfo> parameters;
  Index offset = 0;
  for (const Index size : sizes) {
    parameters.push_back({.name = std::to_string(parameters.size()), .shape = {size}, .offset = offset, .size = size});
    offset += size;
  }
  return parameters;
}

template <class T>
std::vector<T> random_values(Index count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

template <class T>
double worst_deviation_from_reference(const std::string& name) {
  const Safetensors golden = Safetensors::read(MAD_GOLDEN_DIR "/layers/" + name + ".safetensors");
  const auto config = nlohmann::json::parse(golden.text("config"));
  std::vector<ParameterInfo> parameters = parameters_of({12, 5, 4});
  parameters[2].trained = false;
  std::vector<T> values;
  for (const char* key : {"param_init.0", "param_init.1", "param_init.2"}) {
    for (const T value : golden.values<T>(key)) values.push_back(value);
  }
  OptimizerSettings settings =
      OptimizerSettings::of(Fidelity::published, parse_optimizer(config["optimizer"].get<std::string>()),
                            config["weight_decay"].get<double>());
  CHECK(settings.beta1 == config["betas"][0].get<double>());
  CHECK(settings.beta2 == config["betas"][1].get<double>());
  CHECK(settings.epsilon == config["eps"].get<double>());
  Optimizer<T> optimizer(settings, parameters);
  double worst = 0;
  for (std::size_t step = 0; step < config["steps"].get<std::size_t>(); ++step) {
    std::vector<T> gradients(21, T(1e6));  // the gradient of the untrained parameter must not be looked at
    for (std::size_t j = 0; j < 2; ++j) {
      const std::vector<T> g = golden.values<T>("grads." + std::to_string(j));
      const std::size_t size = static_cast<std::size_t>(parameters[j].size);
      std::copy_n(g.begin() + static_cast<Index>(step * size), size, gradients.begin() + parameters[j].offset);
    }
    optimizer.step(values.data(), gradients.data(), config["lr"].get<double>());
    for (std::size_t j = 0; j < 3; ++j) {
      const auto expected = golden.view<double>("params." + std::to_string(j));
      const std::size_t size = static_cast<std::size_t>(parameters[j].size);
      for (std::size_t i = 0; i < size; ++i) {
        const double found = static_cast<double>(values[static_cast<std::size_t>(parameters[j].offset) + i]);
        worst = std::max(worst, std::abs(found - expected[step * size + i]));
      }
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("the optimisers follow the reference step by step") {
  CHECK(worst_deviation_from_reference<double>("optim_adamw") < 1e-14);
  CHECK(worst_deviation_from_reference<double>("optim_sgd") < 1e-14);
  CHECK(worst_deviation_from_reference<float>("optim_adamw") < 2e-6);
  CHECK(worst_deviation_from_reference<float>("optim_sgd") < 2e-6);
}

TEMPLATE_TEST_CASE("a step does not depend on how the arena is split", "", float, double) {
  const auto kind = GENERATE(OptimizerKind::adamw, OptimizerKind::sgd);
  std::vector<ParameterInfo> parameters = parameters_of({1, 70, 3, 129, 5});
  parameters[2].decay = false;
  parameters[3].learning_rate = 1e-3;
  const Index size = 208;
  const auto settings = OptimizerSettings::of(Fidelity::intended, kind, 0.1);
  Optimizer<TestType> whole(settings, parameters);
  Optimizer<TestType> split(settings, parameters);
  auto whole_values = random_values<TestType>(size, 1);
  auto split_values = whole_values;
  const auto original = whole_values;
  for (unsigned step = 0; step < 5; ++step) {
    const auto gradients = random_values<TestType>(size, 100 + step);
    whole.step(whole_values.data(), gradients.data(), 5e-4);
    split.begin_step(5e-4);
    const Index cuts[] = {0, 1, 2, 19, 64, 65, 130, 207, size};
    for (int i = 7; i >= 0; --i) split.update(split_values.data(), gradients.data(), cuts[i], cuts[i + 1]);
  }
  CHECK(whole_values == split_values);
  CHECK(std::ranges::equal(whole.second_moment(), split.second_moment()));
  for (std::size_t i = 0; i < original.size(); ++i) CHECK(whole_values[i] != original[i]);
}

TEST_CASE("marks on parameters count as intended and not as published") {
  // With a constant gradient of 1 both bias-corrected moments are 1, so that AdamW moves by the rate after the decay.
  std::vector<ParameterInfo> parameters = parameters_of({1, 1, 1, 1});
  parameters[1].decay = false;
  parameters[2].learning_rate = 0.5;
  parameters[3].trained = false;
  const double rate = 0.1, decay = 0.2;
  const auto after_one_step = [&](Fidelity fidelity, OptimizerKind kind) {
    Optimizer<double> optimizer(OptimizerSettings::of(fidelity, kind, decay), parameters);
    std::vector<double> values{1, 1, 1, 1};
    const std::vector<double> gradients{1, 1, 1, 1};
    optimizer.step(values.data(), gradients.data(), rate);
    return values;
  };
  const auto kind = GENERATE(OptimizerKind::adamw, OptimizerKind::sgd);
  const auto published = after_one_step(Fidelity::published, kind);
  const auto intended = after_one_step(Fidelity::intended, kind);
  const double all_alike = 1 - rate * decay - rate;
  CHECK(published[0] == Approx(all_alike));
  CHECK(published[1] == Approx(all_alike));
  CHECK(published[2] == Approx(all_alike));
  CHECK(published[3] == 1);
  CHECK(intended[0] == Approx(all_alike));
  CHECK(intended[1] == Approx(1 - rate));
  CHECK(intended[2] == Approx(1 - 0.5 * decay - 0.5));
  CHECK(intended[3] == 1);
}

TEST_CASE("the mode decides on the second beta") {
  CHECK(OptimizerSettings::of(Fidelity::published, OptimizerKind::adamw, 0).beta2 == 0.999);
  CHECK(OptimizerSettings::of(Fidelity::intended, OptimizerKind::adamw, 0).beta2 == 0.98);
}

TEST_CASE("own rates follow the run's schedule from their own start") {
  std::vector<ParameterInfo> parameters = parameters_of({1, 1});
  parameters[1].learning_rate = 0.5;
  Schedule schedule({.kind = ScheduleKind::cosine, .learning_rate = 0.1, .min_learning_rate = 0, .epochs = 2});
  schedule.end_epoch(0);  // half way: both rates are halved
  Optimizer<double> optimizer(OptimizerSettings::of(Fidelity::intended, OptimizerKind::sgd, 0), parameters);
  std::vector<double> values{0, 0};
  const std::vector<double> gradients{-1, -1};
  optimizer.begin_step(schedule);
  optimizer.update(values.data(), gradients.data(), 0, 2);
  CHECK(values[0] == Approx(0.05));
  CHECK(values[1] == Approx(0.25));
}

TEST_CASE("gaps in the arena are left alone") {
  std::vector<ParameterInfo> parameters = parameters_of({2, 2});
  parameters[1].offset = 4;
  Optimizer<float> optimizer(OptimizerSettings::of(Fidelity::published, OptimizerKind::adamw, 0.1), parameters);
  CHECK(optimizer.size() == 6);
  std::vector<float> values(7, 1.0f);
  const std::vector<float> gradients(7, 1.0f);
  optimizer.step(values.data(), gradients.data(), 0.1);
  CHECK(values[1] < 1.0f);
  CHECK(values[2] == 1.0f);
  CHECK(values[3] == 1.0f);
  CHECK(values[5] < 1.0f);
  CHECK(values[6] == 1.0f);
}

TEST_CASE("an optimiser restored from its state continues bit for bit") {
  const std::vector<ParameterInfo> parameters = parameters_of({37});
  const auto settings = OptimizerSettings::of(Fidelity::published, OptimizerKind::adamw, 0.1);
  Optimizer<float> first(settings, parameters);
  auto values = random_values<float>(37, 1);
  for (unsigned step = 0; step < 3; ++step) first.step(values.data(), random_values<float>(37, step).data(), 1e-3);
  Optimizer<float> second(settings, parameters);
  second.restore(first.step_count(), first.first_moment(), first.second_moment());
  auto resumed = values;
  const auto gradients = random_values<float>(37, 9);
  first.step(values.data(), gradients.data(), 1e-3);
  second.step(resumed.data(), gradients.data(), 1e-3);
  CHECK(values == resumed);
  CHECK(second.step_count() == 4);
  Optimizer<float> other(settings, parameters_of({36}));
  CHECK_THROWS_WITH(other.restore(1, first.first_moment(), first.second_moment()),
                    ContainsSubstring("have 37 and 37 elements, expected 36"));
}

TEST_CASE("impossible settings and layouts are refused") {
  const auto settings = OptimizerSettings::of(Fidelity::published, OptimizerKind::adamw, -0.1);
  CHECK_THROWS_AS((Optimizer<float>(settings, {})), mad::UsageError);
  std::vector<ParameterInfo> parameters = parameters_of({2, 2});
  parameters[1].offset = 1;
  CHECK_THROWS_WITH((Optimizer<float>(OptimizerSettings{}, parameters)),
                    ContainsSubstring("parameter '1' begins at element 1"));
  CHECK_THROWS_WITH(parse_optimizer("adam"), ContainsSubstring("unknown optimizer 'adam'"));
  CHECK(parse_optimizer(name(OptimizerKind::sgd)) == OptimizerKind::sgd);
  CHECK_THROWS_WITH(parse_fidelity("exact"), ContainsSubstring("unknown fidelity 'exact'"));
  CHECK(parse_fidelity(name(Fidelity::intended)) == Fidelity::intended);
  CHECK(parse_fidelity(name(Fidelity::published)) == Fidelity::published);
}
