// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Which of two designs is better at what? Trains both on small tasks and prints the accuracies side by side.
#include <mad/mad.hpp>

#include <cstdio>

using Hybrid = mad::Stack<mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>;
using TokenWise = mad::Repeat<2, mad::Stack<mad::Mlp, mad::SwiGLU>>;  // never looks at another token: cannot recall

template <class Net>
double accuracy(const mad::tasks::Setting& setting, const mad::train::TrainSettings& training) {
  const bool encode = mad::tasks::find_task(setting.task).auto_encoder;
  const auto report = encode ? mad::train_on<mad::AutoEncoder<Net, 64>>(setting, training)
                             : mad::train_on<mad::LanguageModel<Net, 64, mad::Norm::rms_norm>>(setting, training);
  return report.results.test.accuracy;
}

int main() {
  using mad::tasks::Setting;
  const Setting settings[] = {
      {.task = "in-context-recall", .seq_len = 32, .num_train_examples = 1600, .num_test_examples = 128},
      {.task = "selective-copying",
       .seq_len = 24,
       .num_tokens_to_copy = 4,
       .num_train_examples = 1600,
       .num_test_examples = 128},
      {.task = "compression", .seq_len = 8, .num_train_examples = 1600, .num_test_examples = 128},
  };
  std::printf("%-20s %8s %11s\n", "test accuracy", "hybrid", "token-wise");
  for (const Setting& setting : settings) {
    const mad::train::TrainSettings training{.epochs = 4, .batch_size = 32, .learning_rate = 1e-3};
    std::printf("%-20s %8.3f %11.3f\n", setting.task.c_str(), accuracy<Hybrid>(setting, training),
                accuracy<TokenWise>(setting, training));
  }
}
