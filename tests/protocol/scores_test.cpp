// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/protocol/scores.hpp>

#include "catch.hpp"

#include <limits>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using namespace mad::protocol;

namespace {

RunOutcome finished(const std::string& task, const std::string& setting, double rate, double accuracy) {
  return {.task = task,
          .setting = setting,
          .learning_rate = rate,
          .weight_decay = 0.1,
          .status = RunStatus::finished,
          .test_accuracy = accuracy};
}

}  // namespace

TEST_CASE("best over the grid, mean over settings, mean over tasks") {
  const std::vector<RunOutcome> runs{
      finished("recall", "baseline", 1e-4, 0.5),  finished("recall", "vocab_size 32", 1e-4, 0.25),
      finished("recall", "baseline", 5e-4, 0.75), finished("recall", "vocab_size 32", 5e-4, 0.125),
      finished("copying", "baseline", 1e-4, 1.0),
  };
  const Scores scores = score(runs);
  CHECK(scores.complete());
  REQUIRE(scores.tasks.size() == 2);
  CHECK(scores.tasks[0].task == "recall");
  CHECK(scores.tasks[0].settings[0].accuracy == 0.75);
  CHECK(scores.tasks[0].settings[0].learning_rate == 5e-4);
  CHECK(scores.tasks[0].settings[1].accuracy == 0.25);
  CHECK(scores.tasks[0].settings[1].learning_rate == 1e-4);
  CHECK(scores.tasks[0].accuracy == 0.5);
  CHECK(scores.tasks[1].accuracy == 1.0);
  CHECK(scores.accuracy == 0.75);  // not the mean over settings, which would be 2/3
  CHECK(scores.runs.finished == 5);
  const std::string table = score_table(scores);
  CHECK(table ==
        "task             accuracy  settings  runs\n"
        "recall             0.5000       2/2  4/4\n"
        "copying            1.0000       1/1  1/1\n"
        "mean over tasks    0.7500\n");
}

TEST_CASE("failed and missing runs are counted and told, not hidden") {
  std::vector<RunOutcome> runs{finished("recall", "baseline", 1e-4, 0.5),
                               finished("recall", "baseline", 5e-4, std::numeric_limits<double>::quiet_NaN()),
                               {.task = "recall", .setting = "seq_len 256"},
                               {.task = "copying",
                                .setting = "baseline",
                                .learning_rate = 1e-3,
                                .status = RunStatus::failed,
                                .note = "the loss is not finite in epoch 3"}};
  const Scores scores = score(runs);
  CHECK_FALSE(scores.complete());
  CHECK(scores.runs.finished == 1);
  CHECK(scores.runs.failed == 2);
  CHECK(scores.runs.missing == 1);
  CHECK(scores.tasks[0].accuracy == 0.5);
  CHECK(scores.tasks[0].scored() == 1);
  CHECK_FALSE(scores.tasks[0].settings[1].accuracy.has_value());
  CHECK_FALSE(scores.tasks[1].accuracy.has_value());
  CHECK(scores.accuracy == 0.5);
  REQUIRE(scores.failures.size() == 2);
  CHECK(scores.failures[1] ==
        "copying, baseline, learning rate 0.001, weight decay 0: the loss is not finite in epoch 3");
  const std::string table = score_table(scores);
  CHECK_THAT(table, ContainsSubstring("incomplete: of 4 runs 2 failed and 1 are missing"));
  CHECK_THAT(table, ContainsSubstring("failed: copying"));
  CHECK_THAT(table, ContainsSubstring("copying                 -       0/1  0/1"));
  CHECK_FALSE(score({}).accuracy.has_value());
}
