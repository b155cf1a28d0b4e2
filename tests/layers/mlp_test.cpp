// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/mlp.hpp>

namespace mad {

TEST_CASE("the MLP agrees with the reference") {
  testing::check_golden<Mlp, 32>("mlp_d32_l7", 64);
  testing::check_golden<MlpLayer<MlpOptions{.inner = 40, .bias = true}>, 48>("mlp_bias_d48_l24", 64);
}

}  // namespace mad
