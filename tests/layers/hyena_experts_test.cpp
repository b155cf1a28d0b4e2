// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/hyena_experts.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

using O = HyenaExpertsOptions;

static_assert(parameter_count(Lowered<HyenaExperts, 128>::graph, 128) == 57464);
static_assert(parameter_count(Lowered<HyenaExperts, 128>::graph, 1280) == 60920);

TEST_CASE("Hyena experts agree with the reference") {
  using testing::check_golden;
  check_golden<HyenaExperts, 32>("hyena-experts_d32_l24", 24);
  check_golden<HyenaExperts, 32>("hyena-experts_maxlen24_d32_l7", 24);
  check_golden<HyenaExpertsLayer<O{.experts = 4, .order = 3, .filter = {.order = 6}}>, 16>(
      "hyena-experts_order3_d16_l24", 24);
  check_golden<HyenaExpertsLayer<O{.outer_mixing = true, .activation = HyenaActivation::silu, .filter = {.order = 4}}>,
               16>("hyena-experts_outer_silu_d16_l24", 24);
}

TEST_CASE("Hyena experts are proved") { CHECK(testing::check_layer<HyenaExperts, 16>()); }

TEST_CASE("Hyena experts with other options are proved") {
  using Other = HyenaExpertsLayer<O{.experts = 3,
                                    .active_experts = 1,
                                    .order = 4,
                                    .outer_mixing = true,
                                    .activation = HyenaActivation::tanh,
                                    .routing = Routing::intended,
                                    .filter_kind = FilterKind::rational,
                                    .rational = {.state = 2}}>;
  CHECK(testing::check_layer<Other, 6, testing::PlannerProof::none>());
}

}  // namespace mad
