// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Times whole training steps (forward, loss, backward, AdamW) of models composed by name. One line of JSON per stack
// and length; benchmarks/primitives.sh puts them beside PyTorch's.
#include "registrations.hpp"

#include <mad/cpu/model.hpp>
#include <mad/train/optimizer.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
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

/// Medians over the repetitions of a step on one batch of random tokens, each to be named one position later.
Milliseconds time_steps(const Request& request, const mad::cpu::Architecture<float>& architecture, Index length) {
  constexpr Index vocab_size = 16;
  mad::cpu::Threads threads(request.threads);
  mad::cpu::Model<float> model(architecture, {.vocab_size = vocab_size, .max_length = length}, 1, threads);
  mad::train::Optimizer<float> optimizer({.weight_decay = 0.1}, model.layout().infos);
  const Index batch = std::max<Index>(1, request.tokens / length);
  std::mt19937 generator(1);
  std::uniform_int_distribution<int> token(0, static_cast<int>(vocab_size) - 1);
  std::vector<int> inputs(static_cast<std::size_t>(batch * length));
  for (int& t : inputs) t = token(generator);
  std::vector<int> targets(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    targets[i] = static_cast<Index>(i) % length == 0 ? mad::cpu::ignored_target : inputs[i - 1];
  std::vector<Index> rows(static_cast<std::size_t>(batch));
  std::iota(rows.begin(), rows.end(), Index{0});
  mad::cpu::BatchOutput<float> out;
  std::vector<double> wall, cpu;
  for (int step = -request.warm_up; step < request.repeat; ++step) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t before = std::clock();
    model.gradient({inputs.data(), targets.data(), length, length, rows}, out);
    optimizer.begin_step(5e-4);
    model.update(optimizer);
    if (step < 0) continue;
    cpu.push_back(1e3 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC);
    wall.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return {median(wall), median(cpu)};
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
  app.add_option("--repeat", request.repeat, "timed steps")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    mad::cli::LayerRegistry registry;
    add_all_layers(registry);
    for (const std::string& stack : request.stacks) {
      const std::vector<std::string> names = CLI::detail::split(stack, '-');
      const auto architecture =
          registry.architecture(names, request.width, mad::Norm::layer_norm, mad::Backbone::language_model);
      for (const Index length : request.lengths) {
        const Milliseconds taken = time_steps(request, architecture, length);
        std::cout << nlohmann::json{{"stack", stack},
                                    {"width", request.width},
                                    {"length", length},
                                    {"batch", std::max<Index>(1, request.tokens / length)},
                                    {"threads", request.threads},
                                    {"milliseconds", taken.wall},
                                    {"cpu_milliseconds", taken.cpu},
                                    {"peak_memory", peak_memory()}}
                  << std::endl;
      }
    }
  } catch (const mad::UsageError& error) {
    std::cerr << "primitive_steps: " << error.what() << '\n';
    return mad::UsageError::exit_status;
  }
}
