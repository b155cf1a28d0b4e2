// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/protocol/settings.hpp>

#include "catch.hpp"

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using namespace mad::protocol;

namespace {

/// A row of the protocol's table: task, what is changed, and every number that some task varies.
struct Row {
  std::string_view task;
  std::string_view changed;
  std::int64_t vocab_size, seq_len, train, noise_vocab_size;
  double frac_noise;
  std::int64_t copies;
};

// The table of the specification, written out.
const std::vector<Row> table{
    {"in-context-recall", "", 16, 128, 12800, 0, 0, 0},
    {"in-context-recall", "vocab_size", 32, 128, 12800, 0, 0, 0},
    {"in-context-recall", "vocab_size", 64, 128, 12800, 0, 0, 0},
    {"in-context-recall", "vocab_size", 128, 128, 12800, 0, 0, 0},
    {"in-context-recall", "seq_len", 16, 256, 12800, 0, 0, 0},
    {"in-context-recall", "seq_len", 16, 512, 12800, 0, 0, 0},
    {"in-context-recall", "seq_len", 16, 1024, 12800, 0, 0, 0},
    {"in-context-recall", "num_train_examples", 16, 128, 6400, 0, 0, 0},
    {"in-context-recall", "num_train_examples", 16, 128, 3200, 0, 0, 0},
    {"in-context-recall", "num_train_examples", 16, 128, 1600, 0, 0, 0},
    {"in-context-recall", "num_train_examples", 16, 128, 800, 0, 0, 0},
    {"noisy-in-context-recall", "", 32, 128, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "vocab_size", 48, 128, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "vocab_size", 80, 128, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "vocab_size", 144, 128, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "seq_len", 32, 256, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "seq_len", 32, 512, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "seq_len", 32, 1024, 12800, 16, 0.2, 0},
    {"noisy-in-context-recall", "num_train_examples", 32, 128, 6400, 16, 0.2, 0},
    {"noisy-in-context-recall", "num_train_examples", 32, 128, 3200, 16, 0.2, 0},
    {"noisy-in-context-recall", "num_train_examples", 32, 128, 1600, 16, 0.2, 0},
    {"noisy-in-context-recall", "num_train_examples", 32, 128, 800, 16, 0.2, 0},
    {"noisy-in-context-recall", "frac_noise", 32, 128, 12800, 16, 0.4, 0},
    {"noisy-in-context-recall", "frac_noise", 32, 128, 12800, 16, 0.6, 0},
    {"noisy-in-context-recall", "frac_noise", 32, 128, 12800, 16, 0.8, 0},
    {"fuzzy-in-context-recall", "", 16, 128, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "vocab_size", 32, 128, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "vocab_size", 64, 128, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "vocab_size", 128, 128, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "seq_len", 16, 256, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "seq_len", 16, 512, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "seq_len", 16, 1024, 12800, 0, 0, 0},
    {"fuzzy-in-context-recall", "num_train_examples", 16, 128, 6400, 0, 0, 0},
    {"fuzzy-in-context-recall", "num_train_examples", 16, 128, 3200, 0, 0, 0},
    {"fuzzy-in-context-recall", "num_train_examples", 16, 128, 1600, 0, 0, 0},
    {"fuzzy-in-context-recall", "num_train_examples", 16, 128, 800, 0, 0, 0},
    {"memorization", "", 256, 32, 256, 0, 0, 0},
    {"memorization", "vocab_size", 512, 32, 256, 0, 0, 0},
    {"memorization", "vocab_size", 1024, 32, 256, 0, 0, 0},
    {"memorization", "vocab_size", 2048, 32, 256, 0, 0, 0},
    {"memorization", "vocab_size", 4096, 32, 256, 0, 0, 0},
    {"memorization", "vocab_size", 8192, 32, 256, 0, 0, 0},
    {"compression", "", 16, 32, 12800, 0, 0, 0},
    {"compression", "vocab_size", 32, 32, 12800, 0, 0, 0},
    {"compression", "vocab_size", 64, 32, 12800, 0, 0, 0},
    {"compression", "vocab_size", 128, 32, 12800, 0, 0, 0},
    {"compression", "seq_len", 16, 64, 12800, 0, 0, 0},
    {"compression", "seq_len", 16, 128, 12800, 0, 0, 0},
    {"compression", "seq_len", 16, 256, 12800, 0, 0, 0},
    {"compression", "num_train_examples", 16, 32, 6400, 0, 0, 0},
    {"compression", "num_train_examples", 16, 32, 3200, 0, 0, 0},
    {"compression", "num_train_examples", 16, 32, 1600, 0, 0, 0},
    {"compression", "num_train_examples", 16, 32, 800, 0, 0, 0},
    {"selective-copying", "", 16, 256, 12800, 0, 0, 16},
    {"selective-copying", "vocab_size", 32, 256, 12800, 0, 0, 16},
    {"selective-copying", "vocab_size", 64, 256, 12800, 0, 0, 16},
    {"selective-copying", "vocab_size", 128, 256, 12800, 0, 0, 16},
    {"selective-copying", "seq_len", 16, 512, 12800, 0, 0, 16},
    {"selective-copying", "seq_len", 16, 1024, 12800, 0, 0, 16},
    {"selective-copying", "num_train_examples", 16, 256, 6400, 0, 0, 16},
    {"selective-copying", "num_train_examples", 16, 256, 3200, 0, 0, 16},
    {"selective-copying", "num_train_examples", 16, 256, 1600, 0, 0, 16},
    {"selective-copying", "num_train_examples", 16, 256, 800, 0, 0, 16},
    {"selective-copying", "num_tokens_to_copy", 16, 256, 12800, 0, 0, 32},
    {"selective-copying", "num_tokens_to_copy", 16, 256, 12800, 0, 0, 64},
    {"selective-copying", "num_tokens_to_copy", 16, 256, 12800, 0, 0, 96},
};

}  // namespace

TEST_CASE("the 66 settings are those of the protocol, in its order") {
  const auto settings = benchmark_settings();
  REQUIRE(settings.size() == table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    const mad::tasks::Setting& found = settings[i].setting;
    const Row& row = table[i];
    INFO("row " << i + 1);
    CHECK(found.task == row.task);
    CHECK(settings[i].changed == row.changed);
    CHECK(found.vocab_size == row.vocab_size);
    CHECK(found.seq_len == row.seq_len);
    CHECK(found.num_train_examples == row.train);
    CHECK(found.noise_vocab_size == row.noise_vocab_size);
    CHECK(found.frac_noise == row.frac_noise);
    CHECK(found.num_tokens_to_copy == row.copies);
    CHECK(found.num_test_examples == 1280);
    CHECK(found.seed == 12345);
    CHECK(found.multi_query);
    const int motif = row.task == "fuzzy-in-context-recall" ? 3 : 1;
    CHECK(found.k_motif_size == motif);
    CHECK(found.v_motif_size == motif);
  }
  CHECK(settings[0].label() == "baseline");
  CHECK(settings[22].label() == "frac_noise 0.4");
  CHECK(settings[65].label() == "num_tokens_to_copy 96");
}

TEST_CASE("all settings can be generated") {
  for (const BenchmarkSetting& setting : benchmark_settings()) CHECK_NOTHROW(mad::tasks::validate(setting.setting));
}

TEST_CASE("the 396 runs are numbered as in the protocol") {
  const auto runs = benchmark_runs();
  REQUIRE(runs.size() == 396);
  // First row (from 1) and number of settings of each task; run index 6 (r - 1) + h n + (i - r).
  const std::vector<std::pair<Index, Index>> blocks{{1, 11}, {12, 14}, {26, 11}, {37, 6}, {43, 11}, {54, 13}};
  for (const auto& [first, count] : blocks) {
    for (Index point = 0; point < 6; ++point) {
      for (Index row = first; row < first + count; ++row) {
        const BenchmarkRun& run = runs[static_cast<std::size_t>(6 * (first - 1) + point * count + (row - first))];
        CHECK(run.setting == row - 1);
        CHECK(run.point == point);
      }
    }
  }
  for (std::size_t i = 0; i < runs.size(); ++i) CHECK(runs[i].index == static_cast<Index>(i));
}

TEST_CASE("the grid is learning rate times weight decay") {
  const double rates[] = {1e-4, 1e-4, 5e-4, 5e-4, 1e-3, 1e-3};
  for (std::size_t point = 0; point < 6; ++point) {
    CHECK(grid[point].learning_rate == rates[point]);
    CHECK(grid[point].weight_decay == (point % 2 == 0 ? 0.0 : 0.1));
  }
}

TEST_CASE("a task outside the benchmark is refused") {
  CHECK_THROWS_WITH(benchmark_settings("copying"), ContainsSubstring("task 'copying' is not part of the benchmark"));
}
