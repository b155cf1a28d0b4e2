// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/core/error.hpp>
#include <mad/tasks/dataset.hpp>
#include <mad/tasks/registry.hpp>

#include <vector>

using namespace mad::tasks;

namespace {

Examples rows(std::vector<std::int64_t> inputs, mad::Index columns) {
  Examples examples;
  examples.rows = static_cast<mad::Index>(inputs.size()) / columns;
  examples.columns = columns;
  examples.targets.assign(inputs.size(), ignore);
  examples.inputs = std::move(inputs);
  return examples;
}

}  // namespace

TEST_CASE("rows are the parts of the arrays") {
  Examples examples = rows({1, 2, 3, 4, 5, 6}, 3);
  examples.targets[3] = 7;
  CHECK(std::vector(examples.input_row(1).begin(), examples.input_row(1).end()) == std::vector<std::int64_t>{4, 5, 6});
  CHECK(examples.target_row(1)[0] == 7);
  CHECK(examples.target_row(0)[2] == ignore);
}

TEST_CASE("the compact form holds the same numbers, or says that it cannot") {
  Examples examples = rows({0, 1, 2147483647, -2147483648LL}, 2);
  const CompactExamples small = compact(examples);
  CHECK(small.rows == 2);
  CHECK(small.columns == 2);
  CHECK(small.inputs == std::vector<std::int32_t>{0, 1, 2147483647, -2147483647 - 1});
  CHECK(small.targets == std::vector<std::int32_t>(4, -100));
  examples.inputs[2] = 2147483648LL;
  CHECK_THROWS_AS(compact(examples), mad::Error);
}

TEST_CASE("leakage counts test rows that occur in training") {
  const Examples train = rows({1, 2, 3, 4, 5, 6}, 2);
  // Row 3 4 leaks twice; 2 3 lies across two training rows and does not; 1 3 differs in one place.
  const Examples test = rows({3, 4, 2, 3, 3, 4, 1, 3, 5, 6}, 2);
  const Leakage found = leakage(train, test);
  CHECK(found.test_rows == 5);
  CHECK(found.leaked_rows == 3);
  CHECK(found.distinct_test_rows == 4);
  CHECK(found.distinct_leaked_rows == 2);
  CHECK(found.share() == 0.5);
  CHECK(found.is_noteworthy());
  CHECK(leaked_rows(train, test) == 3);
  CHECK(leaked_rows(compact(train), compact(test)) == 3);
  CHECK(leaked_rows(train, rows({7, 8}, 2)) == 0);
  CHECK(leaked_rows(train, rows({1}, 1)) == 0);
  CHECK_FALSE(leakage(train, rows({7, 8}, 2)).is_noteworthy());
}

TEST_CASE("leakage is found where there is hardly a choice and not in the baseline") {
  Setting tiny = Recall::baseline();
  tiny.seq_len = 4;
  CHECK(leakage(generate(tiny).train, generate(tiny).test).is_noteworthy());
  const Dataset baseline = generate(Recall::baseline());
  CHECK(leaked_rows(baseline.train, baseline.test) == 0);
}

TEST_CASE("a longer training half begins with the shorter one, but the test half differs") {
  Setting setting = Compression::baseline();
  setting.num_train_examples = 10;
  setting.num_test_examples = 10;
  const Dataset few = generate(setting);
  setting.num_train_examples = 11;
  const Dataset more = generate(setting);
  CHECK(std::equal(few.train.inputs.begin(), few.train.inputs.end(), more.train.inputs.begin()));
  CHECK(few.test != more.test);
  CHECK(std::equal(few.test.input_row(0).begin(), few.test.input_row(0).end(), more.train.input_row(10).begin()));
}
