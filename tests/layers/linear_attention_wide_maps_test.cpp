// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/linear_attention.hpp>

namespace mad {

using O = LinearAttentionOptions;
using F = FeatureMap;
using testing::check_golden;

TEST_CASE("Maps to more features, and learned maps, agree with the reference") {
  check_golden<LinearAttention<O{.feature_map = F::taylor}>, 16>("mh-linear-attention_taylor_d16_l24", 64);
  check_golden<LinearAttention<O{.heads = 1, .feature_map = F::taylor}>, 32>("linear-attention_taylor_d32_l7", 64);
  check_golden<LinearAttention<O{.feature_map = F::hedgehog}>, 16>("mh-linear-attention_hedgehog_d16_l24", 64);
  check_golden<LinearAttention<O{.heads = 1, .feature_map = F::hedgehog}>, 32>("linear-attention_hedgehog_d32_l7", 64);
  check_golden<LinearAttention<O{.feature_map = F::t2r}>, 16>("mh-linear-attention_t2r_d16_l24", 64);
}

}  // namespace mad
