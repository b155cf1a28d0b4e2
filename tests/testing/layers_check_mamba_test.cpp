// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/mamba.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Mamba is proved") { REQUIRE(check_layer<Mamba, 16, PlannerProof::each_pass>()); }

TEST_CASE("Mamba is proved with other sizes and biases") {
  using O = MambaOptions;
  REQUIRE(check_layer<MambaLayer<O{.state = 3, .conv = 1, .expand = 1.5, .dt_rank = 2, .bias = true}>, 6>());
  REQUIRE(check_layer<MambaLayer<O{.state = 16, .dt_constant = true, .conv_bias = false}>, 4, PlannerProof::none>());
  REQUIRE(check_layer<MambaLayer<O{.state = 1, .conv = 2, .expand = 1}>, 5, PlannerProof::none>());
}

}  // namespace mad::testing
