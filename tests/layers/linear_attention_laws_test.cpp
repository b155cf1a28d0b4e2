// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/linear_attention.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad {

using O = LinearAttentionOptions;
using F = FeatureMap;

// Maps without negative features: the normaliser of others may come near zero, where derivatives lose their digits.
TEST_CASE("Linear attention keeps the laws of layers") {
  CHECK(testing::check_layer<LinearAttention<O{.heads = 2, .feature_map = F::elu, .norm_q = true, .norm_k = true}>>());
  CHECK(testing::check_layer<
        LinearAttention<O{.feature_map = F::hedgehog, .expand_v = 2, .tie_feature_map_qk = true}>>());
}

}  // namespace mad
