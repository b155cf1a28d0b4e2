// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/mh_hyena.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

using O = MultiHeadHyenaOptions;

static_assert(parameter_count(Lowered<MultiHeadHyena, 128>::graph, 128) == 30862);
static_assert(parameter_count(Lowered<MultiHeadHyena, 128>::graph, 1280) == 34318);
// The last two inputs of 96 projected channels; 128 keys and 128 values of every token.
static_assert(state_size(Lowered<MultiHeadHyena, 128>::graph, 100) == 2 * 96 + 2 * 128 * 100);

TEST_CASE("Multi-head Hyena agrees with the reference") {
  using testing::check_golden;
  check_golden<MultiHeadHyenaLayer<O{.head_width = 4}>, 32>("mh-hyena_d32_l24", 24);
  check_golden<MultiHeadHyenaLayer<O{.head_width = 4}>, 32>("mh-hyena_maxlen24_d32_l7", 24);
  check_golden<MultiHeadHyenaLayer<O{.head_width = 16, .filter = {.order = 4}}>, 32>("mh-hyena_h16_d32_l7", 7);
  check_golden<MultiHeadHyenaLayer<O{.head_width = 1}>, 16>("mh-hyena_h1_d16_l24", 24);
  check_golden<MultiHeadHyenaLayer<O{.head_width = 12, .projection_groups = 1}>, 48>("mh-hyena_pg1_d48_l24", 24);
}

TEST_CASE("Multi-head Hyena is proved") { CHECK(testing::check_layer<MultiHeadHyena, 16>()); }

TEST_CASE("Multi-head Hyena is proved with several heads") {
  using Several = MultiHeadHyenaLayer<O{.head_width = 3, .projection_groups = 2}>;
  using testing::PlannerProof;
  CHECK(testing::check_layer<Several, 12, PlannerProof::none>());
  // Long sequences go through transforms, which mix roundings over the sequence.
  CHECK(testing::check_layer<Several, 12, PlannerProof::none>(
      {.shapes = {{2, 500, 510}}, .coordinates = 4, .leak = 1e-12}));
}

}  // namespace mad
