// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// How do I write a task of my own and make data from it?
#include <mad/tasks/any_task.hpp>
#include <mad/tasks/precondition.hpp>

#include <iostream>

using namespace mad::tasks;

// Reversal: some symbols, a signal, and then the symbols once more, last one first.
struct Reversal {
  static constexpr std::string_view name = "reversal";

  static void validate(const Setting& setting) {  // refuse what cannot be generated, before any work
    require(setting.vocab_size >= 2, name, "vocab_size", setting.vocab_size, "at least 2 (a symbol and the signal)");
    require(setting.seq_len >= 2, name, "seq_len", setting.seq_len, "at least 2");
  }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len / 2 * 2; }

  explicit Reversal(const Setting& setting) : signal(setting.vocab_size - 1) {}

  // Fills one row. Inputs arrive as zeros, targets as `ignore`: only what is set counts as a target.
  void make(Streams& streams, Mode, Example row) {
    const std::size_t half = row.inputs.size() / 2;
    for (std::size_t i = 0; i < half; ++i) {
      const std::int64_t symbol = streams.main.below(signal);
      row.inputs[i] = symbol;
      row.inputs[half + i] = signal;
      row.targets[row.targets.size() - 1 - i] = symbol;
    }
  }

  std::int64_t signal;
};

int main() {
  const Setting setting{.vocab_size = 10, .seq_len = 12, .num_train_examples = 3, .num_test_examples = 1};
  const Dataset data = generate<Reversal>(setting);
  for (mad::Index row = 0; row < data.train.rows; ++row) {
    for (const std::int64_t token : data.train.input_row(row)) std::cout << token << ' ';
    std::cout << " ->  ";
    for (const std::int64_t token : data.train.target_row(row))
      std::cout << (token == ignore ? "." : std::to_string(token)) << ' ';
    std::cout << '\n';
  }

  const Task task = task_of<Reversal>();  // as a value: what the trainer and the command line take
  std::cout << "test rows of " << task.name << " that occur in training: " << leaked_rows(data.train, data.test)
            << '\n';
}
