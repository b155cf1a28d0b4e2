// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/attention.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/block.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Residual blocks of channel mixers are proved with both norms") {
  REQUIRE(check_layer<Residual<Norm::layer_norm, SwiGLU>, 16, PlannerProof::each_pass>());
  REQUIRE(check_layer<Residual<Norm::rms_norm, SwiGLU>>());
  REQUIRE(check_layer<Residual<Norm::rms_norm, Mlp>, 7, PlannerProof::none>());
}

TEST_CASE("Residual blocks of attention are proved with both norms") {
  REQUIRE(check_layer<Residual<Norm::layer_norm, Attn>>());
  REQUIRE(check_layer<Residual<Norm::rms_norm, Attn>, 8, PlannerProof::none>());
}

TEST_CASE("The decoder is proved with both norms") {
  REQUIRE(check_layer<Decoder<Norm::layer_norm>, 12, PlannerProof::each_pass>());
  REQUIRE(check_layer<Decoder<Norm::rms_norm>>());
}

TEST_CASE("The norms in front of the head are proved") {
  REQUIRE(check_layer<HeadNorm<Norm::layer_norm>, 5>());
  REQUIRE(check_layer<HeadNorm<Norm::rms_norm>, 17>());
}

}  // namespace mad::testing
