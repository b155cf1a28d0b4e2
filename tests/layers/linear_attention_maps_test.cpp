// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/linear_attention.hpp>

namespace mad {

using O = LinearAttentionOptions;
using F = FeatureMap;
using testing::check_golden;

TEST_CASE("Maps without parameters agree with the reference") {
  check_golden<LinearAttention<O{.feature_map = F::identity}>, 16>("mh-linear-attention_identity_d16_l24", 64);
  check_golden<LinearAttention<O{.feature_map = F::elu}>, 16>("mh-linear-attention_elu_d16_l24", 64);
  check_golden<LinearAttention<O{.feature_map = F::relu}>, 16>("mh-linear-attention_relu_d16_l24", 64);
  check_golden<LinearAttention<O{.feature_map = F::elu, .norm_q = true, .norm_k = true}>, 16>(
      "mh-linear-attention_normqk_d16_l24", 64);
  check_golden<LinearAttention<O{.feature_map = F::dpfp}>, 16>("mh-linear-attention_dpfp_d16_l24", 64);
}

}  // namespace mad
