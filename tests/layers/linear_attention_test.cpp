// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/linear_attention.hpp>

namespace mad {

using O = LinearAttentionOptions;
using F = FeatureMap;
using testing::check_golden;

TEST_CASE("Linear attention agrees with the reference") {
  check_golden<SingleHeadLinearAttn, 32>("linear-attention_elementwise_product_d32_l7", 64);
  check_golden<LinearAttention<O{.heads = 4}>, 48>("mh-linear-attention_d48_l24", 64);
  check_golden<LinearAttn, 16>("mh-linear-attention_elementwise_product_d16_l24", 64);
  check_golden<LinearAttention<O{.tie_feature_map_qk = true}>, 16>("mh-linear-attention_tied_d16_l7", 64);
  check_golden<LinearAttention<O{.heads = 3, .feature_map = F::t2r, .expand_k = 2, .expand_v = 0.5}>, 24>(
      "mh-linear-attention_expand_d24_l24", 64);
}

TEST_CASE("Linear attention has the reference's size") {
  CHECK(parameter_count(Lowered<SingleHeadLinearAttn, 128>::graph, 1) == 131584);
  CHECK(parameter_count(Lowered<LinearAttn, 128>::graph, 1) == 65824);
}

}  // namespace mad
