// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

using O = MoeMlpOptions;

TEST_CASE("The mixture of experts agrees with the reference") {
  using testing::check_golden;
  check_golden<MoeMlp, 32>("moe-mlp_d32_l7", 64);
  check_golden<MoeMlpLayer<O{.inner = 6, .bias = true}>, 16>("moe-mlp_bias_d16_l24", 64);
  check_golden<MoeMlpLayer<O{.experts = 4, .active = 1}>, 48>("moe-mlp_e4a1_d48_l7", 64);
}

TEST_CASE("The mixture of experts has the reference's size, the parameter that is never read included") {
  CHECK(parameter_count(Lowered<MoeMlp, 128>::graph, 1) == 165000);
}

TEST_CASE("Mixtures of experts keep the laws of layers") {
  CHECK(
      testing::check_layer<MoeMlpLayer<O{.experts = 6, .active = 3, .inner = 5, .routing = Routing::intended}>, 16>());
}

}  // namespace mad
