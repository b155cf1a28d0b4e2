// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/hyena.hpp>

namespace mad {

TEST_CASE("Hyena agrees with the reference") {
  using testing::check_golden;
  check_golden<Hyena, 32>("hyena_d32_l7", 7);
  check_golden<Hyena, 32>("hyena_d32_l24", 24);
  check_golden<Hyena, 32>("hyena_maxlen24_d32_l7", 24);
  check_golden<Hyena, 16>("hyena_trunc16_d16_l24", 16);
}

TEST_CASE("Hyena's options agree with the reference") {
  using O = HyenaOptions;
  using testing::check_golden;
  check_golden<HyenaLayer<O{.inner_factor = 2, .projection_groups = 1, .short_filter = 5}>, 16>("hyena_pg1_d16_l24",
                                                                                                24);
  check_golden<HyenaLayer<O{.inner_factor = 2, .projection_groups = 3}>, 48>("hyena_pg3_d48_l24", 24);
  check_golden<HyenaLayer<O{.inner_factor = 2, .order = 3}>, 16>("hyena_order3_d16_l24", 24);
  check_golden<HyenaLayer<O{.inner_factor = 2,
                            .filter = {.order = 6,
                                       .features = 5,
                                       .depth = 3,
                                       .frequency = 2.5,
                                       .normalized = true,
                                       .fast_decay = 0.2,
                                       .slow_decay = 1.2,
                                       .target = 0.001,
                                       .shift = 0.1,
                                       .window_learning_rate = 0.001}}>,
               16>("hyena_filteropts_d16_l24", 30);
}

}  // namespace mad
