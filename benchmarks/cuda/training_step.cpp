// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Whole training steps (choice of the batch, forward, loss, backward, AdamW) of four-layer language models of width 128
/// on the GPU, as replays of one CUDA graph. One line of JSON per case, in the words of benchmarks/pytorch/primitives.py.
///
///   training_step [--stacks S ...] [--lengths L ...] [--precisions P ...] [--tokens N] [--models M] [--once]
#include "step_time.hpp"

#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

int main(int argc, char** argv) {
  using namespace mad::benchmark;
  std::vector<std::string> stacks, lengths, precisions, tokens, models, repeat;
  Case c;
  const std::vector<std::pair<std::string, std::vector<std::string>*>> options{
      {"--stacks", &stacks}, {"--lengths", &lengths}, {"--precisions", &precisions},
      {"--tokens", &tokens}, {"--models", &models},   {"--repeat", &repeat}};
  std::vector<std::string>* into = nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--once") {
      c.once = true;
      continue;
    }
    if (word.starts_with("--")) {
      into = nullptr;
      for (const auto& [name, values] : options)
        if (name == word) into = values;
    } else if (into != nullptr) {
      into->push_back(word);
      continue;
    }
    if (into == nullptr) {
      std::fprintf(stderr, "training_step: '%s' was not expected\n", word.c_str());
      return 2;
    }
  }
  if (stacks.empty()) stacks = {"mA-Sg-mA-Sg", "H-Sg-H-Sg", "Mb-Mb-Mb-Mb"};
  if (lengths.empty()) lengths = {"128", "1024"};
  if (precisions.empty()) precisions = {"bf16", "fp32"};
  if (tokens.empty()) tokens = {"16384"};
  if (models.empty()) models = {"1"};
  if (!repeat.empty()) c.repeat = std::stoi(repeat[0]);
  try {
    for (const std::string& stack : stacks)
      for (const std::string& precision : precisions)
        for (const std::string& length : lengths)
          for (const std::string& count : tokens)
            for (const std::string& together : models) {
              const Measure measure = stack == "mA-Sg-mA-Sg"  ? find_attention(precision)
                                      : stack == "H-Sg-H-Sg"   ? find_hyena(precision)
                                      : stack == "Mb-Mb-Mb-Mb" ? find_mamba(precision)
                                                               : nullptr;
              if (measure == nullptr) {
                std::fprintf(stderr, "training_step: there is no stack '%s' in '%s'\n", stack.c_str(), precision.c_str());
                return 2;
              }
              c.length = std::stol(length);
              c.batch = std::stol(count) / c.length;
              c.models = std::stoi(together);
              const StepTime t = measure(c);
              std::printf("{\"stack\": \"%s\", \"dtype\": \"%s\", \"width\": 128, \"length\": %td, \"batch\": %td, "
                          "\"models\": %d, \"milliseconds\": %.4f, \"steps_per_second\": %.1f, \"graph_nodes\": %zu, "
                          "\"memory_mib\": %.1f, \"first_loss\": %.5f, \"last_loss\": %.5f}\n",
                          stack.c_str(), precision.c_str(), c.length, c.batch, c.models, t.milliseconds,
                          t.steps_per_second, t.graph_nodes, static_cast<double>(t.memory_bytes) / (1 << 20),
                          t.first_loss, t.last_loss);
              std::fflush(stdout);
            }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "training_step: %s\n", error.what());
    return 1;
  }
  return 0;
}
