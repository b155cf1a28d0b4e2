// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/mamba.hpp>

namespace mad {

TEST_CASE("Mamba agrees with the reference") {
  using O = MambaOptions;
  using testing::check_golden;
  check_golden<Mamba, 32>("mamba_d32_l7", 64);
  check_golden<Mamba, 32>("mamba_d32_l24", 64);
  check_golden<MambaLayer<O{.state = 3, .conv = 3, .dt_rank = 5, .conv_bias = false, .bias = true}>, 16>(
      "mamba_bias_d16_l24", 64);
  check_golden<MambaLayer<O{.expand = 1}>, 48>("mamba_expand1_d48_l24", 64);
}

}  // namespace mad
