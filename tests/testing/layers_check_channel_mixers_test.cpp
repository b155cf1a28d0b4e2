// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Mlp is proved") {
  REQUIRE(check_layer<Mlp, 16, PlannerProof::each_pass>());
  REQUIRE(check_layer<MlpLayer<MlpOptions{.inner = 13, .bias = true}>, 7>());
}

TEST_CASE("SwiGLU is proved") {
  REQUIRE(check_layer<SwiGLU, 16, PlannerProof::each_pass>());
  REQUIRE(check_layer<SwiGluLayer<SwiGluOptions{.multiple_of = 5, .bias = true}>, 9>());
}

}  // namespace mad::testing
