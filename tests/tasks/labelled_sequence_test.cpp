// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/tasks/labelled_sequence.hpp>

#include <vector>

using namespace mad::tasks;
using Row = std::vector<std::int64_t>;

namespace {

struct Written {
  Row inputs;
  Row targets;
};

Written write(const LabelledSequence& sequence, Mode mode, std::size_t columns) {
  Written row{Row(columns, 55), Row(columns, 55)};
  sequence.write(mode, 9, {row.inputs, row.targets});
  return row;
}

}  // namespace

TEST_CASE("a sequence is written as next-token prediction, padded on the left") {
  LabelledSequence sequence;
  sequence.add(1);
  sequence.add(2, 2);
  sequence.add(3);
  sequence.add(4, 4);
  REQUIRE(sequence.size() == 4);

  CHECK(write(sequence, Mode::train, 3).inputs == Row{1, 2, 3});
  CHECK(write(sequence, Mode::train, 3).targets == Row{2, 3, 4});
  CHECK(write(sequence, Mode::test, 3).inputs == Row{1, 2, 3});
  CHECK(write(sequence, Mode::test, 3).targets == Row{2, ignore, 4});

  CHECK(write(sequence, Mode::train, 4).inputs == Row{9, 1, 2, 3});
  CHECK(write(sequence, Mode::train, 4).targets == Row{1, 2, 3, 4});
  CHECK(write(sequence, Mode::test, 4).targets == Row{ignore, 2, ignore, 4});

  CHECK(write(sequence, Mode::train, 6).inputs == Row{9, 9, 9, 1, 2, 3});
  CHECK(write(sequence, Mode::train, 6).targets == Row{9, 9, 1, 2, 3, 4});
  CHECK(write(sequence, Mode::test, 6).targets == Row{ignore, ignore, ignore, 2, ignore, 4});

  sequence.clear();
  CHECK(sequence.size() == 0);
}
