// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "gradient_tiles.hpp"

#include "catch.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

using namespace mad;
using namespace mad::testing;

// Needs no device.
TEST_CASE("tiles of gradients of weights have every number once, and all rows") {
  for (const int out : {8, 64, 128, 136, 256, 264, 352, 384, 520, 1536})
    for (const int in : {8, 128, 136, 256, 352})
      for (const bool bias : {false, true})
        for (const Index rows : {1, 63, 64, 65, 1000, 16384, 32768}) {
          INFO("out " << out << ", in " << in << ", bias " << bias << ", rows " << rows);
          const GradientTiles found = cut_gradients({{out, in, bias}, {352, 128}, {128, 352}}, rows, 132);
          const auto numbers = found.times.begin() + static_cast<std::ptrdiff_t>(out) * in;
          CHECK(std::all_of(found.times.begin(), numbers, [](int times) { return times == 1; }));
          CHECK(std::all_of(numbers, found.times.end(), [&](int times) { return times == (bias ? 1 : 0); }));
          CHECK(found.rows_are_shared);
          CHECK(found.follow);
          CHECK(found.have_room);
        }
}
