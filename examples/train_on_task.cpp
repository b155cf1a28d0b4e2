// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// How is a model trained step by step, and what stays in the folder of a run? (For one call: quickstart.cpp.)
#include <mad/mad.hpp>
#include <mad/train/run_folder.hpp>

#include <cstdio>
#include <filesystem>

using Net = mad::Stack<mad::SwiGLU, mad::Attn, mad::Mamba, mad::SwiGLU>;

int main(int argc, char** argv) {
  // 1. Data: token ids, bit for bit those of the reference.
  const mad::tasks::Setting setting{.task = "selective-copying",
                                    .seq_len = 24,
                                    .num_tokens_to_copy = 4,
                                    .num_train_examples = 640,
                                    .num_test_examples = 64};
  const mad::tasks::Dataset data = mad::tasks::generate(setting);
  const auto train = mad::tasks::compact(data.train);
  const auto test = mad::tasks::compact(data.test);

  // 2. A model: the type gives layers, width and norm; vocabulary and length are known at run time.
  mad::cpu::Threads threads;  // all of the machine; the number changes no result
  mad::cpu::Model<float> model(mad::cpu::architecture<mad::LanguageModel<Net, 64>, float>(),
                               {.vocab_size = 16, .max_length = train.columns}, setting.seed, threads);

  // 3. A folder: checkpoints, logs/metrics.csv, results.csv, run.json. Run this program twice: the second time it finds
  //    a finished run; interrupt it, and the next run goes on where this one stopped.
  const std::filesystem::path folder = argc > 1 ? argv[1] : std::filesystem::temp_directory_path() / "mad-example";
  const mad::train::TrainSettings settings{.epochs = 3, .batch_size = 32, .learning_rate = 1e-3};
  mad::train::RunFolder<float> store({folder, {{"example", "train_on_task"}}, {}}, settings, model.layout().infos);

  // 4. Training. Without a store and a progress line it is silent and leaves nothing behind.
  mad::train::Trainer<mad::cpu::Model<float>> trainer(model, train, test, settings, &store);
  mad::train::Progress progress;
  const mad::train::RunReport report = trainer.run(&progress);
  std::printf("%s; test accuracy %.3f; files in %s\n", report.message.c_str(), report.results.test.accuracy,
              folder.string().c_str());
}
