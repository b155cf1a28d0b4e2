// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Compose a hybrid architecture, hold it to a budget, train it on a task: the program of the README.
#include <mad/mad.hpp>

#include <cstdio>

using Net = mad::Stack<mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>;
using Model = mad::LanguageModel<Net, 64>;

static_assert(Net::depth == 4);
static_assert(Model::parameters({.vocab_size = 16, .max_length = 31}) < 130'000);

int main() {
  const mad::tasks::Setting recall{.task = "in-context-recall", .seq_len = 32, .num_train_examples = 3200};
  const auto report = mad::train_on<Model>(recall, {.epochs = 6, .batch_size = 32, .learning_rate = 1e-3});

  for (std::size_t epoch = 0; epoch < report.epochs.size(); ++epoch)
    std::printf("epoch %zu: test accuracy %.3f\n", epoch + 1, report.epochs[epoch].test.accuracy);
  std::printf("best weights: test accuracy %.3f, perplexity %.3f\n", report.results.test.accuracy,
              report.results.test.perplexity);
}
