// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// What cannot be generated is refused before any work, in words; what just can be is generated.
#include "catch.hpp"

#include <mad/core/error.hpp>
#include <mad/tasks/registry.hpp>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using mad::tasks::built_in_tasks;
using mad::tasks::find_task;
using mad::tasks::Setting;
using mad::tasks::Task;

namespace {

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();

/// A task's baseline with few examples and one change.
Setting changed(const std::string& task, const std::function<void(Setting&)>& change) {
  Setting setting = find_task(task).baseline;
  setting.num_train_examples = 3;
  setting.num_test_examples = 2;
  change(setting);
  return setting;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

struct Refusal {
  std::string task;
  std::function<void(Setting&)> change;
  std::string begin;  // of the message, after the task: field and value
};

}  // namespace

TEST_CASE("an impossible setting is refused with its field, its value and what is allowed") {
  const std::vector<Refusal> refusals{
      // recall: in-context, and the same rules under the noisy name
      {"CR", [](Setting& s) { s.seq_len = 127; }, "seq_len is 127"},
      {"CR", [](Setting& s) { s.seq_len = 2; }, "seq_len is 2"},
      {"CR", [](Setting& s) { s.seq_len = -4; }, "seq_len is -4"},
      {"CR", [](Setting& s) { s.vocab_size = 1; }, "vocab_size is 1"},
      {"CR", [](Setting& s) { s.vocab_size = 2, s.multi_query = false; }, "vocab_size is 2"},
      {"CR", [](Setting& s) { s.noise_vocab_size = 15; }, "vocab_size is 16"},
      {"CR", [](Setting& s) { s.noise_vocab_size = huge; }, "vocab_size is 16"},
      {"CR", [](Setting& s) { s.vocab_size = least; }, "vocab_size is -9223372036854775808"},
      {"CR", [](Setting& s) { s.noise_vocab_size = -1; }, "noise_vocab_size is -1"},
      {"CR", [](Setting& s) { s.frac_noise = 0.1; }, "noise_vocab_size is 0"},
      {"NR", [](Setting& s) { s.frac_noise = 1.0; }, "frac_noise is 1"},
      {"NR", [](Setting& s) { s.frac_noise = -0.1; }, "frac_noise is -0.1"},
      {"NR", [](Setting& s) { s.frac_noise = std::nan(""); }, "frac_noise is nan"},
      {"NR", [](Setting& s) { s.noise_vocab_size = 0; }, "noise_vocab_size is 0"},
      {"NR", [](Setting& s) { s.noise_vocab_size = 31; }, "vocab_size is 32"},
      // fuzzy recall
      {"FR", [](Setting& s) { s.k_motif_size = 0; }, "k_motif_size is 0"},
      {"FR", [](Setting& s) { s.v_motif_size = 0; }, "v_motif_size is 0"},
      {"FR", [](Setting& s) { s.seq_len = 12; }, "seq_len is 12"},
      {"FR", [](Setting& s) { s.seq_len = 0; }, "seq_len is 0"},
      {"FR", [](Setting& s) { s.vocab_size = 6; }, "k_motif_size is 3"},
      {"FR", [](Setting& s) { s.v_motif_size = 9, s.k_motif_size = 1; }, "v_motif_size is 9"},
      {"FR", [](Setting& s) { s.vocab_size = 0; }, "vocab_size is 0"},
      {"FR", [](Setting& s) { s.noise_vocab_size = huge; }, "vocab_size is 16"},
      {"FR", [](Setting& s) { s.noise_vocab_size = 16; }, "vocab_size is 16"},
      {"FR", [](Setting& s) { s.vocab_size = 2000; }, "k_motif_size is 3"},
      {"FR", [](Setting& s) { s.vocab_size = 2000, s.k_motif_size = 1; }, "v_motif_size is 3"},
      {"FR", [](Setting& s) { s.frac_noise = 1.0, s.noise_vocab_size = 4; }, "frac_noise is 1"},
      {"FR", [](Setting& s) { s.frac_noise = 0.2; }, "noise_vocab_size is 0"},
      // memorization
      {"M", [](Setting& s) { s.seq_len = 1; }, "seq_len is 1"},
      {"M", [](Setting& s) { s.vocab_size = 2; }, "vocab_size is 2"},
      {"M", [](Setting& s) { s.frac_noise = 1.5, s.noise_vocab_size = 1; }, "frac_noise is 1.5"},
      {"M", [](Setting& s) { s.frac_noise = -1; }, "frac_noise is -1"},
      {"M", [](Setting& s) { s.frac_noise = 0.5; }, "noise_vocab_size is 0"},
      {"M", [](Setting& s) { s.frac_noise = 0.5, s.noise_vocab_size = 256; }, "noise_vocab_size is 256"},
      // compression
      {"C", [](Setting& s) { s.seq_len = 0; }, "seq_len is 0"},
      {"C", [](Setting& s) { s.vocab_size = 1; }, "vocab_size is 1"},
      {"C", [](Setting& s) { s.noise_vocab_size = 15; }, "vocab_size is 16"},
      {"C", [](Setting& s) { s.frac_noise = 0.5; }, "noise_vocab_size is 0"},
      {"C", [](Setting& s) { s.frac_noise = std::nan(""); }, "frac_noise is nan"},
      {"C", [](Setting& s) { s.seq_len = 1, s.vocab_size = 0; }, "vocab_size is 0"},
      // copying
      {"SC", [](Setting& s) { s.num_tokens_to_copy = 0; }, "num_tokens_to_copy is 0"},
      {"SC", [](Setting& s) { s.num_tokens_to_copy = -1; }, "num_tokens_to_copy is -1"},
      {"SC", [](Setting& s) { s.num_tokens_to_copy = 128; }, "seq_len is 256"},
      {"SC", [](Setting& s) { s.num_tokens_to_copy = huge; }, "seq_len is 256"},
      {"SC", [](Setting& s) { s.seq_len = 33; }, "seq_len is 33"},
      {"SC", [](Setting& s) { s.vocab_size = 2; }, "vocab_size is 2"},
      {"copying", [](Setting& s) { s.num_tokens_to_copy = -1; }, "num_tokens_to_copy is -1"},
      {"copying", [](Setting& s) { s.num_tokens_to_copy = 0, s.seq_len = 1; }, "seq_len is 1"},
      {"copying", [](Setting& s) { s.num_tokens_to_copy = 0, s.vocab_size = 1; }, "vocab_size is 1"},
  };
  for (const Refusal& refusal : refusals) {
    const Setting setting = changed(refusal.task, refusal.change);
    const std::string begin = setting.task + ": " + refusal.begin + ", must be ";
    INFO(begin);
    std::string text = "(accepted)";
    try {
      mad::tasks::generate(setting);
    } catch (const mad::UsageError& error) {
      text = error.what();
    }
    CHECK(first_line(text).substr(0, begin.size()) == begin);
    CHECK(first_line(text).size() > begin.size() + 1);
    CHECK_THROWS_AS(mad::tasks::validate(setting), mad::UsageError);
  }
}

TEST_CASE("counts, seeds and sizes of memory are checked for every task") {
  for (const Task& task : built_in_tasks()) {
    INFO(task.name);
    const auto refused = [&](const std::function<void(Setting&)>& change, const std::string& words) {
      INFO(words);
      CHECK_THROWS_WITH(task.generate(changed(task.name, change)),
                        Catch::Matchers::ContainsSubstring(task.name + ": " + words));
      CHECK_THROWS_AS(task.generate(changed(task.name, change)), mad::UsageError);
    };
    refused([](Setting& s) { s.num_train_examples = 0; }, "num_train_examples is 0, must be at least 1");
    refused([](Setting& s) { s.num_test_examples = -1; }, "num_test_examples is -1, must be at least 1");
    refused([](Setting& s) { s.seed = std::uint64_t{1} << 32; }, "seed is 4294967296, must be 0 .. 4294967295");
    refused([](Setting& s) { s.num_train_examples = huge; }, "num_train_examples is 9223372036854775807");
    refused([](Setting& s) { s.num_test_examples = huge / 2; }, "num_test_examples is 4611686018427387903");
  }
}

TEST_CASE("the smallest legal settings are generated") {
  const std::vector<std::pair<std::string, std::function<void(Setting&)>>> smallest{
      {"CR", [](Setting& s) { s.seq_len = 4, s.vocab_size = 2; }},
      {"CR", [](Setting& s) { s.seq_len = 4, s.vocab_size = 3, s.multi_query = false; }},
      {"NR", [](Setting& s) { s.vocab_size = 3, s.noise_vocab_size = 1; }},
      {"FR", [](Setting& s) { s.seq_len = 13, s.vocab_size = 7; }},
      {"FR", [](Setting& s) { s.seq_len = 13, s.vocab_size = 8, s.multi_query = false; }},
      {"FR", [](Setting& s) { s.seq_len = 5, s.vocab_size = 3, s.k_motif_size = s.v_motif_size = 1; }},
      {"M", [](Setting& s) { s.seq_len = 2, s.vocab_size = 3; }},
      {"M", [](Setting& s) { s.frac_noise = 1.0, s.noise_vocab_size = 255; }},
      {"C", [](Setting& s) { s.seq_len = 2, s.vocab_size = 2; }},
      {"C", [](Setting& s) { s.seq_len = 1, s.vocab_size = 1; }},
      {"C", [](Setting& s) { s.frac_noise = 7.5, s.noise_vocab_size = 2; }},
      {"C", [](Setting& s) { s.frac_noise = -3.0; }},
      {"SC", [](Setting& s) { s.seq_len = 4, s.num_tokens_to_copy = 1, s.vocab_size = 3; }},
      {"copying", [](Setting& s) { s.seq_len = 2, s.num_tokens_to_copy = 0, s.vocab_size = 2; }},
      {"copying", [](Setting& s) { s.seed = 0xffffffffu; }},
  };
  for (const auto& [task, change] : smallest) {
    const Setting setting = changed(task, change);
    INFO(setting.task << ", vocab_size " << setting.vocab_size << ", seq_len " << setting.seq_len);
    const mad::tasks::Dataset data = mad::tasks::generate(setting);
    for (const auto* half : {&data.train, &data.test}) {
      CHECK(half->columns == find_task(task).row_length(setting));
      CHECK(half->inputs.size() == static_cast<std::size_t>(half->rows * half->columns));
      for (const std::int64_t token : half->inputs) CHECK((token >= 0 && token < setting.vocab_size));
      for (const std::int64_t target : half->targets) {
        CHECK((target == mad::tasks::ignore || (target >= 0 && target < setting.vocab_size)));
      }
    }
  }
}

TEST_CASE("a recall context that came out as nothing but noise is an error that says so") {
  const Setting setting = changed("CR", [](Setting& s) {
    s.seq_len = 4;
    s.frac_noise = 0.9;
    s.noise_vocab_size = 4;
    s.num_train_examples = 1000;
  });
  CHECK_NOTHROW(mad::tasks::validate(setting));
  CHECK_THROWS_WITH(mad::tasks::generate(setting), Catch::Matchers::ContainsSubstring("came out as noise"));
}
