// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "comparison.hpp"
#include "nets.hpp"

#include <mad/train/optimizer.hpp>

#include <exception>
#include <thread>

using namespace mad;
using namespace mad::testing;

namespace {

/// The same training on the CPU in double: losses of all steps, then of the test batches.
template <class Type>
std::vector<double> train_on_cpu(const std::vector<float>& parameters, const ModelOptions& options,
                                 const TokenRows& train, const TokenRows& test, const TrainingRecipe& recipe,
                                 const std::vector<std::vector<Index>>& orders) {
  cpu::Threads threads(0);
  cpu::Model<double> model(cpu::architecture<Type, double>(), options, 1, threads);
  std::copy(parameters.begin(), parameters.end(), model.parameters());
  using train::Fidelity;
  using train::OptimizerKind;
  train::Optimizer<double> optimizer({.kind = recipe.adamw ? OptimizerKind::adamw : OptimizerKind::sgd,
                                      .weight_decay = recipe.weight_decay,
                                      .fidelity = recipe.honour_marks ? Fidelity::intended : Fidelity::published},
                                     model.layout().infos);
  std::vector<double> losses;
  cpu::BatchOutput<double> out;
  for (const std::vector<Index>& order : orders) {
    for (std::size_t at = 0; at < order.size(); at += static_cast<std::size_t>(recipe.batch_size)) {
      const std::size_t count = std::min(static_cast<std::size_t>(recipe.batch_size), order.size() - at);
      model.gradient({train.inputs.data(), train.targets.data(), train.length, train.length,
                      std::span<const Index>(order).subspan(at, count)},
                     out);
      losses.push_back(out.loss);
      optimizer.begin_step(recipe.learning_rate);
      model.update(optimizer);
    }
  }
  for (Index at = 0; at < test.rows; at += recipe.batch_size) {
    std::vector<Index> rows(static_cast<std::size_t>(std::min(recipe.batch_size, test.rows - at)));
    std::iota(rows.begin(), rows.end(), at);
    model.evaluate({test.inputs.data(), test.targets.data(), test.length, test.length, rows}, out);
    losses.push_back(out.loss);
  }
  return losses;
}

template <class Net, int Width, Norm N>
void compare_training(const TrainingRecipe& recipe, Precision precision, double tolerance) {
  if (no_device()) return;
  using Type = LanguageModel<Net, Width, N>;
  const ModelOptions options{.vocab_size = 16, .max_length = 48};
  const TokenRows train = random_tokens(22, 48, 16, 5);  // not a multiple of the batch
  const TokenRows test = random_tokens(11, 48, 16, 6);
  std::vector<std::vector<Index>> orders(4, std::vector<Index>(22));
  std::mt19937 generator(7);
  for (std::vector<Index>& order : orders) {
    std::iota(order.begin(), order.end(), Index{0});
    std::shuffle(order.begin(), order.end(), generator);
  }
  const auto device = make_device_model<Net, Width, N>(precision, options, 1);
  const std::vector<float> initial = device->parameters();
  const std::vector<double> found = device->train(train, test, recipe, orders);
  const std::vector<double> expected = train_on_cpu<Type>(initial, options, train, test, recipe, orders);
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO("step " << i);
    CHECK(found[i] == Approx(expected[i]).epsilon(tolerance));
  }
  CHECK(device->parameters() != initial);

  const std::vector<float> trained = device->parameters();
  device->set_parameters(initial);
  CHECK(device->train(train, test, recipe, orders) == found);
  CHECK(device->parameters() == trained);
}

}  // namespace

TEST_CASE("training on the device follows the CPU") {
  compare_training<MultiHeadNet, 64, Norm::layer_norm>({.batch_size = 8, .weight_decay = 0.1}, Precision::exact, 1e-4);
  compare_training<MultiHeadNet, 64, Norm::layer_norm>({.batch_size = 8, .learning_rate = 0.3, .adamw = false},
                                                       Precision::exact, 1e-4);
}

TEST_CASE("training in bfloat16 follows the CPU") {
  compare_training<MultiHeadNet, 64, Norm::layer_norm>({.batch_size = 8, .weight_decay = 0.1}, Precision::mixed, 2e-2);
}

TEST_CASE("training in micro-batches follows the CPU") {
  const TrainingRecipe recipe{.batch_size = 8, .weight_decay = 0.1, .micro_batch = 3};
  compare_training<MultiHeadNet, 64, Norm::layer_norm>(recipe, Precision::exact, 1e-4);
  compare_training<HyenaNet, 64, Norm::layer_norm>(recipe, Precision::exact, 1e-4);
}

TEST_CASE("own learning rates and exemptions from decay are honoured on the device") {
  compare_training<HyenaNet, 64, Norm::layer_norm>({.batch_size = 8, .weight_decay = 0.1, .honour_marks = true},
                                                   Precision::exact, 1e-4);
}

// What ends on one thread gives memory back, which would spoil what another records at that time.
TEST_CASE("models come and go beside others that record their steps") {
  if (no_device()) return;
  const ModelOptions options{.vocab_size = 16, .max_length = 16};
  const TokenRows rows = random_tokens(8, 16, 16, 5);
  std::vector<Index> order(8);
  std::iota(order.begin(), order.end(), Index{0});
  const auto train = [&] {
    const auto model = make_device_model<MultiHeadNet, 64, Norm::layer_norm>(Precision::mixed, options, 1);
    return model->train(rows, rows, {.batch_size = 4}, {order});
  };
  const std::vector<double> alone = train();
  const int rounds = few_shapes() ? 2 : 12;
  std::vector<std::string> failures(few_shapes() ? 2 : 8);
  std::vector<std::thread> threads;
  for (std::string& failure : failures)
    threads.emplace_back([&train, &alone, &failure, rounds] {
      try {
        for (int round = 0; round < rounds; ++round)
          if (train() != alone) failure = "other losses in round " + std::to_string(round);
      } catch (const std::exception& error) {
        failure = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == std::vector<std::string>(failures.size()));
}
