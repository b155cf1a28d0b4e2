// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/swiglu.hpp>

namespace mad {

TEST_CASE("SwiGLU agrees with the reference") {
  testing::check_golden<SwiGLU, 32>("swiglu_d32_l7", 64);
  testing::check_golden<SwiGluLayer<SwiGluOptions{.bias = true}>, 24>("swiglu_bias_d24_l24", 64);
}

}  // namespace mad
