// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "time_steps.hpp"
#include "comparison.hpp"

#include <algorithm>

using namespace mad;
using namespace mad::testing;

TEST_CASE("the device times training steps, and nothing else, where it is asked to") {
  if (no_device()) return;
  constexpr int steps = 21;  // more than a graph has, and not a multiple of it
  constexpr int tests = 3;
  const TokenRows train = random_tokens(4 * steps - 1, 20, 16, 5);
  const TokenRows test = random_tokens(4 * tests, 20, 16, 6);
  const StepTimes without = run_on_device(false, train, test, 4, 2);
  const StepTimes found = run_on_device(true, train, test, 4, 2);
  CHECK(found.losses == without.losses);
  REQUIRE(found.milliseconds.size() == steps + tests + steps);
  CHECK(without.milliseconds == std::vector<double>(steps + tests + steps, 0.0));
  for (std::size_t i = 0; i < found.milliseconds.size(); ++i) {
    INFO("batch " << i);
    const bool evaluated = i >= steps && i < steps + tests;
    CHECK((found.milliseconds[i] > 0) != evaluated);
    CHECK(found.milliseconds[i] < 1000);  // of the device, for so little: anything else is no time
  }
}
