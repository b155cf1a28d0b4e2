// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/layers/attention.hpp>

namespace mad {

TEST_CASE("attention agrees with the reference") {
  using O = AttentionOptions;
  using testing::check_golden;
  check_golden<Attention<O{.heads = 1}>, 32>("attention_d32_l7", 64);
  check_golden<Attention<O{.heads = 1, .rotary = 16}>, 32>("attention_rot16_d32_l24", 64);
  check_golden<Attention<O{.heads = 4}>, 32>("mh-attention_d32_l7", 64);
  check_golden<Attention<O{.heads = 4}>, 48>("mh-attention_d48_l24", 64);
  check_golden<Attention<O{.heads = 8, .rotary = 0}>, 32>("mh-attention_norot_d32_l24", 64);
  check_golden<Attention<O{.heads = 2, .rotary = 4, .bias = false}>, 16>("mh-attention_rot4_nobias_d16_l24", 64);
  check_golden<Attention<O{.heads = 4, .kv_heads = 2, .scale = 0.5}>, 32>("mh-attention_gqa_d32_l24", 64);
}

TEST_CASE("attention with a sliding window agrees with the reference") {
  using O = AttentionOptions;
  using testing::check_golden;
  check_golden<Attention<O{.heads = 4, .window = 3}>, 48>("mh-sliding-attention_w3_d48_l24", 64);
  check_golden<Attention<O{.heads = 4, .window = 5}>, 32>("mh-sliding-attention_w5_d32_l24", 64);
  check_golden<Attention<O{.heads = 1, .window = 32}>, 32>("sliding-attention_w32_d32_l7", 64);
  check_golden<Attention<O{.heads = 1, .window = 8}>, 32>("sliding-attention_w8_d32_l24", 64);
}

}  // namespace mad
