// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// How do I use a trained model token by token, with the state that each layer keeps?
#include <mad/cpu/generation.hpp>
#include <mad/mad.hpp>

#include <cstdio>

using Net = mad::Stack<mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>;
using Model = mad::LanguageModel<Net, 64>;

int main() {
  constexpr mad::Index shown = 4, count = 9;  // sequences to continue, and by how many tokens

  // Pairs of a key (0 to 7) and a value (8 to 15); when a key comes again, so does its value.
  const mad::tasks::Setting setting{.task = "in-context-recall", .seq_len = 32, .num_train_examples = 3200};
  const mad::tasks::Dataset data = mad::tasks::generate(setting);
  const auto train = mad::tasks::compact(data.train);
  const auto test = mad::tasks::compact(data.test);
  const mad::Index given = test.columns;

  // Hyena's filters are made for max_length positions: leave room for what is to come.
  mad::cpu::Threads threads;
  mad::cpu::Model<float> model(mad::cpu::architecture<Model, float>(), {.vocab_size = 16, .max_length = given + count},
                               setting.seed, threads);
  using Trainer = mad::train::Trainer<mad::cpu::Model<float>>;
  const auto report = Trainer(model, train, test, {.epochs = 6, .batch_size = 32, .learning_rate = 1e-3}).run();
  std::printf("test accuracy %.3f\n", report.results.test.accuracy);

  // A test's context ends with a key seen before: the model names its value and goes on with pairs of its own.
  mad::cpu::Inference<Model> inference(model, shown, given + count);
  std::printf("state: %td bytes for %td sequences of up to %td tokens\n", inference.state_bytes(), shown,
              inference.length());
  const std::span<const int> prompt(test.inputs.data(), static_cast<std::size_t>(shown * given));
  const std::vector<int> drawn = inference.generate(prompt, count, {.temperature = 0.7, .seed = 1});
  for (mad::Index b = 0; b < shown; ++b) {
    for (mad::Index t = 0; t < given; ++t) std::printf("%d ", prompt[static_cast<std::size_t>(b * given + t)]);
    std::printf("->");
    for (mad::Index t = 0; t < count; ++t) std::printf(" %d", drawn[static_cast<std::size_t>(b * count + t)]);
    std::printf("  (first expected: %d)\n", test.targets[static_cast<std::size_t>((b + 1) * given - 1)]);
  }
}
