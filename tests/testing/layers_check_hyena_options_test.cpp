// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/hyena.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

TEST_CASE("Hyena is proved with shared projections and shared filters") {
  using O = HyenaOptions;
  REQUIRE(check_layer<HyenaLayer<O{.inner_factor = 1, .projection_groups = 1, .short_filter = 1}>, 7,
                      PlannerProof::none>());
  REQUIRE(check_layer<HyenaLayer<O{.inner_factor = 2, .projection_groups = 3, .short_filter = 5, .heads = 4}>, 6>());
  REQUIRE(check_layer<HyenaLayer<O{.inner_factor = 2, .order = 3}>, 8, PlannerProof::none>());
}

TEST_CASE("Hyena is proved with every option of the filter") {
  constexpr HyenaOptions options{.inner_factor = 2,
                                 .filter = {.order = 6,
                                            .features = 5,
                                            .depth = 3,
                                            .frequency = 2.5,
                                            .normalized = true,
                                            .fast_decay = 0.2,
                                            .slow_decay = 1.2,
                                            .target = 0.001,
                                            .shift = 0.1,
                                            .window_learning_rate = 0.001}};
  REQUIRE(check_layer<HyenaLayer<options>, 4>());
  REQUIRE(check_layer<HyenaLayer<HyenaOptions{.filter = {.order = 3, .depth = 0, .modulate = false}}>, 4,
                      PlannerProof::none>());
}

}  // namespace mad::testing
