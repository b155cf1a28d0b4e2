// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/models/block.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Residual blocks of Hyena are proved with both norms") {
  REQUIRE(check_layer<Residual<Norm::layer_norm, Hyena>, 4>());
  REQUIRE(check_layer<Residual<Norm::rms_norm, Hyena>, 5, PlannerProof::none>());
}

TEST_CASE("Residual blocks of Mamba are proved with both norms") {
  REQUIRE(check_layer<Residual<Norm::layer_norm, Mamba>, 8>());
  REQUIRE(check_layer<Residual<Norm::rms_norm, Mamba>, 4, PlannerProof::none>());
}

}  // namespace mad::testing
