// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Whole training steps (forward, loss, backward, AdamW) of small language models, float, all threads of the machine.
///
/// Without options of its own it is a Google Benchmark program. benchmarks/speed.sh drives it in other ways:
///   --json       one step per line of standard input, one line of JSON per step; --write gives away weights and data
///   --products   how much of a step its matrix products take, and how far below the machine's best they are
///   --memory     a few steps, then the peak memory of the process
#include <mad/cpu/model.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/train/optimizer.hpp>
#include <mad/train/safetensors.hpp>

#include <benchmark/benchmark.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
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

struct Case {
  std::string stack = "mA-Sg-mA-Sg";  ///< the layers' shorthands
  int width = 128;
  Index length = 128;
  Index batch = 128;
  int threads = 0;  ///< 0: all that the machine has
};

constexpr Index vocab_size = 16;
constexpr double learning_rate = 5e-4;
constexpr double weight_decay = 0.1;

/// A model, and the graphs of its blocks, which tell what it multiplies.
struct Described {
  mad::cpu::Architecture<float> architecture;
  std::vector<std::pair<const mad::Graph*, const mad::Schedule*>> blocks;
};

template <int Width, class... Layers>
Described described() {
  using namespace mad;
  return {cpu::architecture<LanguageModel<Stack<Layers...>, Width>, float>(),
          {{&Lowered<Residual<Norm::layer_norm, Layers>, Width>::graph,
            &Lowered<Residual<Norm::layer_norm, Layers>, Width>::plan.schedule}...}};
}

template <int Width>
Described find(const std::string& stack) {
  using namespace mad;
  if (stack == "mA-Sg-mA-Sg") return described<Width, Attn, SwiGLU, Attn, SwiGLU>();
  if (stack == "H-Sg-H-Sg") return described<Width, Hyena, SwiGLU, Hyena, SwiGLU>();
  if (stack == "Mb-Mb-Mb-Mb") return described<Width, Mamba, Mamba, Mamba, Mamba>();
  if (stack == "H-mA-Sg-Mb") return described<Width, Hyena, Attn, SwiGLU, Mamba>();
  throw UsageError("the stack '" + stack +
                   "' is not built in. Known are mA-Sg-mA-Sg, H-Sg-H-Sg, Mb-Mb-Mb-Mb and H-mA-Sg-Mb.");
}

Described find(const Case& c) {
  if (c.width == 64) return find<64>(c.stack);
  if (c.width == 128) return find<128>(c.stack);
  throw mad::UsageError("width " + std::to_string(c.width) + " is not built in. Known are 64 and 128.");
}

/// Time that passed and time that all threads of the process computed, in milliseconds. On a machine with other work
/// the second is the steadier.
struct Times {
  double wall = 0;
  double cpu = 0;
};

template <class F>
Times times(const F& work) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t cpu = std::clock();
  work();
  return {std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count(),
          1e3 * static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC};
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// A model that learns to name the token before the current one, on one batch of random tokens.
class Training {
public:
  explicit Training(const Case& c)
      : case_(c),
        threads_(c.threads),
        model_(find(c).architecture, {.vocab_size = vocab_size, .max_length = c.length}, 1, threads_),
        optimizer_({.weight_decay = weight_decay}, model_.layout().infos) {
    std::mt19937 generator(1);
    std::uniform_int_distribution<int> token(0, static_cast<int>(vocab_size) - 1);
    inputs_.resize(static_cast<std::size_t>(c.batch * c.length));
    for (int& t : inputs_) t = token(generator);
    targets_.resize(inputs_.size());
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const bool first = static_cast<Index>(i) % c.length == 0;
      targets_[i] = first ? mad::cpu::ignored_target : inputs_[i - 1];
    }
    rows_.resize(static_cast<std::size_t>(c.batch));
    std::iota(rows_.begin(), rows_.end(), Index{0});
  }

  /// One step. Returns the loss before it.
  double step() {
    model_.gradient({inputs_.data(), targets_.data(), case_.length, case_.length, rows_}, out_);
    constexpr Index chunk = 1 << 14;
    optimizer_.begin_step(learning_rate);
    threads_.run((optimizer_.size() + chunk - 1) / chunk, [&](Index task, int) {
      optimizer_.update(model_.parameters(), model_.gradients(), task * chunk, (task + 1) * chunk);
    });
    return out_.loss;
  }

  /// Weights under their own names, tokens as `inputs` and `targets`.
  void write(const std::string& path) const {
    mad::train::SafetensorsWriter file;
    for (const mad::ParameterInfo& p : model_.layout().infos)
      file.add(p.name, p.shape, std::span(model_.parameters() + p.offset, static_cast<std::size_t>(p.size)));
    const std::vector<Index> shape{case_.batch, case_.length};
    file.add("inputs", shape, std::vector<std::int64_t>(inputs_.begin(), inputs_.end()));
    file.add("targets", shape, std::vector<std::int64_t>(targets_.begin(), targets_.end()));
    file.write(path);
  }

  const mad::cpu::Model<float>& model() const { return model_; }
  mad::cpu::Threads& threads() { return threads_; }

private:
  Case case_;
  mad::cpu::Threads threads_;
  mad::cpu::Model<float> model_;
  mad::train::Optimizer<float> optimizer_;
  std::vector<int> inputs_, targets_;
  std::vector<Index> rows_;
  mad::cpu::BatchOutput<float> out_;
};

/// The matrix products of one micro-batch of a model, without anything else of the step. The buffers are used again and
/// again, so that the time is a lower bound of what the products take inside a step.
class Products {
public:
  Products(const Described& model, Index vocabulary, Index rows) : rows_(rows) {
    for (const auto& [graph, schedule] : model.blocks) append(*graph, *schedule);
    for (const mad::Operation* op :
         {&mad::ops::linear_op, &mad::ops::linear_input_gradient_op, &mad::ops::linear_weight_gradient_op})
      append(op, model.architecture.width, vocabulary);
    x_.assign(static_cast<std::size_t>(rows * widest_), 1.0F);
    y_.assign(x_.size(), 0.0F);
    weights_.assign(static_cast<std::size_t>(widest_ * widest_), 0.0F);
  }

  double operations() const {
    double sum = 0;
    for (const Product& p : products_) sum += 2.0 * static_cast<double>(rows_ * p.in * p.out);
    return sum;
  }

  mad::cpu::Workspace& workspace() { return workspace_; }

  void run() {
    const float* x = x_.data();
    for (const Product& p : products_) {
      if (p.op == &mad::ops::linear_op)
        mad::cpu::linear_forward<float>(rows_, p.in, p.out, {x, p.in}, weights_.data(), nullptr, {y_.data(), p.out},
                                        workspace_);
      else if (p.op == &mad::ops::linear_input_gradient_op)
        mad::cpu::linear_input_gradient<float>(rows_, p.in, p.out, {x, p.out}, weights_.data(), false,
                                               {y_.data(), p.in}, workspace_);
      else
        mad::cpu::linear_weight_gradient<float>(rows_, p.in, p.out, {x, p.out}, {y_.data(), p.in}, weights_.data(),
                                                workspace_);
    }
  }

private:
  struct Product {
    const mad::Operation* op;
    Index in;
    Index out;
  };

  void append(const mad::Operation* op, Index in, Index out) {
    products_.push_back({op, in, out});
    widest_ = std::max({widest_, in, out});
  }

  void append(const mad::Graph& g, const mad::Schedule& s) {
    for (int i = 0; i < g.size; ++i) {
      const mad::Node& n = g.nodes[i];
      if (s.phase[i] != mad::Phase::forward && s.phase[i] != mad::Phase::backward) continue;
      const auto width = [&](int operand) -> Index { return g.nodes[n.operand[operand]].width; };
      if (n.op == &mad::ops::linear_op) append(n.op, width(0), n.width);
      if (n.op == &mad::ops::linear_input_gradient_op) append(n.op, n.width, width(0));
      if (n.op == &mad::ops::linear_weight_gradient_op) append(n.op, width(1), width(0));
    }
  }

  Index rows_;
  Index widest_ = 1;
  std::vector<Product> products_;
  std::vector<float> x_, y_, weights_;
  mad::cpu::Workspace workspace_;
};

/// One line of JSON per line of standard input: {"milliseconds": time of a step, "cpu_milliseconds": of
/// all threads, "loss": before it}.
void step_on_request(Training& training) {
  for (std::string line; std::getline(std::cin, line);) {
    double loss = 0;
    const Times t = times([&] { loss = training.step(); });
    std::cout << nlohmann::json{{"milliseconds", t.wall}, {"cpu_milliseconds", t.cpu}, {"loss", loss}} << std::endl;
  }
}

/// Step, its matrix products alone, and products of large square matrices, in turn; medians of the computing time per
/// thread.
void measure_products(const Case& c, Training& training) {
  constexpr int rounds = 9;
  constexpr Index square = 1024;
  const Index sequences = std::max<Index>(mad::cpu::Model<float>::micro_batch_tokens / c.length, 2);
  const Index pieces = (c.batch + sequences - 1) / sequences;
  mad::cpu::Threads& threads = training.threads();
  std::vector<Products> products;
  std::vector<std::array<std::vector<float>, 3>> squares(static_cast<std::size_t>(threads.count()));
  for (auto& matrices : squares) {
    products.emplace_back(find(c), vocab_size, sequences * c.length);
    for (std::vector<float>& m : matrices) m.assign(static_cast<std::size_t>(square * square), 1.0F);
  }
  std::array<std::vector<double>, 3> taken;
  for (int round = -2; round < rounds; ++round) {
    const std::array now{times([&] { training.step(); }), times([&] {
                           threads.run(pieces,
                                       [&](Index, int thread) { products[static_cast<std::size_t>(thread)].run(); });
                         }),
                         times([&] {
                           threads.run(2 * threads.count(), [&](Index, int thread) {
                             auto& [a, b, out] = squares[static_cast<std::size_t>(thread)];
                             mad::cpu::linear_forward<float>(square, square, square, {a.data(), square}, b.data(),
                                                             nullptr, {out.data(), square},
                                                             products[static_cast<std::size_t>(thread)].workspace());
                           });
                         })};
    for (std::size_t i = 0; round >= 0 && i < now.size(); ++i) taken[i].push_back(now[i].cpu / threads.count());
  }
  const double step = median(taken[0]);
  const double alone = median(taken[1]);
  const double operations = products[0].operations() * static_cast<double>(pieces);
  const double best = 2.0 * threads.count() * 2.0 * square * square * square / median(taken[2]) / 1e6;
  std::cout << nlohmann::json{{"stack", c.stack},
                              {"width", c.width},
                              {"length", c.length},
                              {"batch", c.batch},
                              {"threads", threads.count()},
                              {"step_milliseconds", step},
                              {"products_milliseconds", alone},
                              {"products_gflop", operations / 1e9},
                              {"products_gflop_per_second", operations / alone / 1e6},
                              {"step_gflop_per_second", operations / step / 1e6},
                              {"square_gflop_per_second", best}}
            << std::endl;
}

/// Peak memory of the process (VmHWM) after three steps.
void measure_memory(const Case& c, Training& training) {
  for (int i = 0; i < 3; ++i) training.step();
  std::ifstream status("/proc/self/status");
  Index kibibytes = 0;
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) kibibytes = std::stol(line.substr(6));
  std::cout << nlohmann::json{{"stack", c.stack},
                              {"width", c.width},
                              {"length", c.length},
                              {"batch", c.batch},
                              {"parameters", training.model().layout().size},
                              {"working_mebibytes", static_cast<double>(training.model().working_bytes()) / 1048576},
                              {"peak_mebibytes", static_cast<double>(kibibytes) / 1024}}
            << std::endl;
}

void steps(benchmark::State& state, const Case& c) {
  Training training(c);
  training.step();
  for (auto _ : state) benchmark::DoNotOptimize(training.step());
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * c.batch * c.length), benchmark::Counter::kIsRate);
}

int run_google_benchmark(int argc, char** argv) {
  for (const char* stack : {"mA-Sg-mA-Sg", "H-Sg-H-Sg", "Mb-Mb-Mb-Mb", "H-mA-Sg-Mb"}) {
    for (const int width : {64, 128}) {
      for (const Index length : {128, 1024}) {
        const Case c{.stack = stack, .width = width, .length = length, .batch = 128 * 128 / length};
        const std::string name = c.stack + "/width:" + std::to_string(width) + "/length:" + std::to_string(length) +
                                 "/batch:" + std::to_string(c.batch);
        benchmark::RegisterBenchmark(name.c_str(), [c](benchmark::State& state) { steps(state, c); })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime()
            ->MeasureProcessCPUTime();
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

int run_measurement(int argc, char** argv) {
  Case c;
  std::string write;
  CLI::App app("Training steps of small language models");
  bool json = false, products = false, memory = false;
  app.add_flag("--json", json, "A step per line of standard input, a line of JSON per step");
  app.add_flag("--products", products, "The share of matrix products in a step");
  app.add_flag("--memory", memory, "Peak memory after three steps");
  app.add_option("--stack", c.stack, "Layers, such as H-mA-Sg-Mb");
  app.add_option("--width", c.width, "64 or 128");
  app.add_option("--length", c.length, "Tokens per sequence")->check(CLI::PositiveNumber);
  app.add_option("--batch", c.batch, "Sequences")->check(CLI::PositiveNumber);
  app.add_option("--threads", c.threads, "Threads; 0: all");
  app.add_option("--write", write, "Writes initial weights and data to this safetensors file first");
  CLI11_PARSE(app, argc, argv);
  if (json + products + memory != 1) throw mad::UsageError("give one of --json, --products and --memory.");
  Training training(c);
  if (!write.empty()) training.write(write);
  if (json) step_on_request(training);
  if (products) measure_products(c, training);
  if (memory) measure_memory(c, training);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first != "--json" && first != "--products" && first != "--memory") return run_google_benchmark(argc, argv);
  try {
    return run_measurement(argc, argv);
  } catch (const mad::UsageError& error) {
    std::cerr << "training_step_benchmark: " << error.what() << '\n';
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "training_step_benchmark: " << error.what() << '\n';
    return 1;
  }
}
