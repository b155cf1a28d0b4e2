// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Times whole training steps (forward, loss, backward, AdamW) of models composed by name, on the CPU or on a GPU. One
// line of JSON per stack and length; benchmarks/primitives.sh puts them beside PyTorch's.
#include "registrations.hpp"

#include <mad/cpu/model.hpp>
#include <mad/train/accelerator.hpp>
#include <mad/train/optimizer.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace {

using mad::Index;

struct Request {
  std::vector<std::string> stacks;
  std::vector<Index> lengths{128, 1024};
  Index tokens = 128 * 128;
  int width = 128;
  int threads = 2;
  int warm_up = 2;
  int repeat = 7;
  bool cuda = false;
  mad::train::Precision precision = mad::train::Precision::bf16;
  int runs = 1;
  Index steps = 16;
  Index micro_batch = 0;
};

constexpr Index vocab_size = 16;

/// Random tokens; each is to be named one position later.
struct Examples {
  std::vector<int> inputs;
  std::vector<int> targets;

  Examples(Index rows, Index length, unsigned seed) : inputs(static_cast<std::size_t>(rows * length)) {
    std::mt19937 generator(seed);
    std::uniform_int_distribution<int> token(0, static_cast<int>(vocab_size) - 1);
    for (int& t : inputs) t = token(generator);
    targets.resize(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i)
      targets[i] = static_cast<Index>(i) % length == 0 ? mad::cpu::ignored_target : inputs[i - 1];
  }
};

struct Milliseconds {
  double wall;
  double cpu;  ///< of all threads
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// The most memory that this process has ever held, in bytes, as Linux counts it; 0 elsewhere.
Index peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string key; status >> key;) {
    if (key != "VmHWM:") continue;
    Index kilobytes = 0;
    status >> kilobytes;
    return 1024 * kilobytes;
  }
  return 0;
}

/// Medians over the repetitions of a step on one batch.
Milliseconds time_steps(const Request& request, const mad::cpu::Architecture<float>& architecture, Index length) {
  mad::cpu::Threads threads(request.threads);
  mad::cpu::Model<float> model(architecture, {.vocab_size = vocab_size, .max_length = length}, 1, threads);
  mad::train::Optimizer<float> optimizer({.weight_decay = 0.1}, model.layout().infos);
  const Index batch = std::max<Index>(1, request.tokens / length);
  const Examples examples(batch, length, 1);
  std::vector<Index> rows(static_cast<std::size_t>(batch));
  std::iota(rows.begin(), rows.end(), Index{0});
  mad::cpu::BatchOutput<float> out;
  std::vector<double> wall, cpu;
  for (int step = -request.warm_up; step < request.repeat; ++step) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t before = std::clock();
    model.gradient({examples.inputs.data(), examples.targets.data(), length, length, rows}, out);
    optimizer.begin_step(5e-4);
    model.update(optimizer);
    if (step < 0) continue;
    cpu.push_back(1e3 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC);
    wall.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return {median(wall), median(cpu)};
}

struct DeviceTime {
  double replay;  ///< milliseconds per step, by the device's clock: the median over replays but the first of an epoch
  double epoch;   ///< the same by the host's, the median over epochs: of all runs together, over the number of runs
  Index memory;   ///< bytes per run
  double loss;    ///< of the last step
};

/// A device computes an epoch without the host, which starts its steps, those of all runs in turn, and waits at the
/// end. Replays of a recorded step go from the end of the one before to their own; the first waits for the host as
/// well.
DeviceTime time_device_steps(const Request& request, const mad::cpu::Architecture<float>& architecture, Index length) {
  using namespace mad::train;
  const Index steps = request.steps;
  const Accelerator& device = require_accelerator();
  device.open(0);
  const Index batch = std::max<Index>(1, request.tokens / length);
  const Index before = device.bytes_in_use(0);
  const Schedule schedule({.kind = ScheduleKind::constant, .learning_rate = 5e-4});
  std::vector<std::unique_ptr<DeviceModel>> models;
  std::vector<std::unique_ptr<DeviceRun>> runs;
  for (int r = 0; r < request.runs; ++r) {
    const Examples examples(steps * batch, length, static_cast<unsigned>(r + 1));
    const ExampleSpan span{examples.inputs, examples.targets, steps * batch, length};
    ModelRequest model =
        request_for(architecture, {.vocab_size = vocab_size, .max_length = length}, static_cast<std::uint64_t>(r + 1));
    model.micro_batch = request.micro_batch;
    models.push_back(device.make(model, request.precision, 0));
    runs.push_back(models.back()->begin(span, span, batch, {.weight_decay = 0.1}));
    runs.back()->time_steps();
  }
  const Index memory = (device.bytes_in_use(0) - before) / request.runs;
  std::vector<Index> order(static_cast<std::size_t>(steps * batch));
  std::iota(order.begin(), order.end(), Index{0});
  std::vector<double> replays, epochs;
  double loss = 0;
  for (int epoch = -request.warm_up; epoch < request.repeat; ++epoch) {
    for (auto& run : runs) run->begin_epoch(order, schedule, 0);
    const auto start = std::chrono::steady_clock::now();
    std::size_t first_replay = 0;
    for (Index s = 0; s < steps;) {
      Index started = 0;
      for (auto& run : runs) started = run->start_steps();
      if (s == 0 && started < steps) first_replay = static_cast<std::size_t>(started);
      s += started;
    }
    std::vector<std::vector<BatchResult>> results;
    for (auto& run : runs) results.push_back(run->finish());
    const double taken = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    loss = results.back().back().metrics.loss;
    if (epoch < 0) continue;
    epochs.push_back(taken / static_cast<double>(steps * request.runs));
    for (const auto& of_run : results)
      for (std::size_t i = first_replay; i < of_run.size(); ++i) replays.push_back(of_run[i].milliseconds);
  }
  return {median(replays), median(epochs), memory, loss};
}

/// The line of one stack and length.
nlohmann::json measure(const Request& request, const std::string& stack,
                       const mad::cpu::Architecture<float>& architecture, Index length) {
  nlohmann::json line{{"stack", stack},
                      {"width", request.width},
                      {"length", length},
                      {"batch", std::max<Index>(1, request.tokens / length)}};
  if (request.cuda) {
    const DeviceTime taken = time_device_steps(request, architecture, length);
    line.update({{"device", "cuda"},
                 {"dtype", name(request.precision)},
                 {"runs", request.runs},
                 {"micro_batch", request.micro_batch},
                 {"milliseconds", taken.replay},
                 {"epoch_milliseconds", taken.epoch},
                 {"peak_memory", taken.memory},
                 {"loss", taken.loss}});
    return line;
  }
  const Milliseconds taken = time_steps(request, architecture, length);
  line.update({{"device", "cpu"},
               {"threads", request.threads},
               {"milliseconds", taken.wall},
               {"cpu_milliseconds", taken.cpu},
               {"peak_memory", peak_memory()}});
  return line;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  CLI::App app("Times training steps of models composed by name.");
  app.add_option("stacks", request.stacks, "shorthands joined by '-', such as mA-Sg-mA-Sg")->required();
  app.add_option("--lengths", request.lengths, "tokens per sequence")->delimiter(',')->capture_default_str();
  app.add_option("--tokens", request.tokens, "tokens per step")->capture_default_str();
  app.add_option("--width", request.width, "64 or 128")->capture_default_str();
  app.add_option("--threads", request.threads, "")->capture_default_str();
  app.add_option("--warm-up", request.warm_up, "steps before the timed ones")->capture_default_str();
  app.add_option("--repeat", request.repeat, "timed steps; on a GPU, timed epochs")->capture_default_str();
  std::string device = "cpu", precision = "bf16";
  app.add_option("--device", device, "")->check(CLI::IsMember({"cpu", "cuda"}))->capture_default_str();
  app.add_option("--precision", precision, "on a GPU")->check(CLI::IsMember({"fp32", "bf16"}))->capture_default_str();
  app.add_option("--runs", request.runs, "on a GPU, trained side by side")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--steps", request.steps, "on a GPU, of an epoch")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--micro-batch", request.micro_batch,
                 "on a GPU, sequences that go through the model at a time; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  request.cuda = device == "cuda";
  request.precision = precision == "fp32" ? mad::train::Precision::fp32 : mad::train::Precision::bf16;
  try {
    mad::cli::LayerRegistry registry;
    add_all_layers(registry);
    for (const std::string& stack : request.stacks) {
      const std::vector<std::string> names = CLI::detail::split(stack, '-');
      const auto architecture =
          registry.architecture(names, request.width, mad::Norm::layer_norm, mad::Backbone::language_model);
      for (const Index length : request.lengths)
        std::cout << measure(request, stack, architecture, length) << std::endl;
    }
  } catch (const mad::UsageError& error) {
    std::cerr << "primitive_steps: " << error.what() << '\n';
    return mad::UsageError::exit_status;
  } catch (const std::exception& error) {
    std::cerr << "primitive_steps: " << error.what() << '\n';
    return 1;
  }
}
