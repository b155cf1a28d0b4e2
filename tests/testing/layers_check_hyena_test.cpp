// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/hyena.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Hyena is proved") { REQUIRE(check_layer<Hyena, 8, PlannerProof::each_pass>()); }

TEST_CASE("Hyena is proved where convolutions go by transforms") {
  // Transforms mix roundings over the sequence.
  REQUIRE(check_layer<Hyena, 4, PlannerProof::none>(
      {.shapes = {{2, 64, 64}, {3, 71, 90}}, .coordinates = 4, .leak = 1e-12}));
}

}  // namespace mad::testing
