// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"

#include <mad/ops/elementwise.hpp>
#include <mad/ops/norm.hpp>

namespace mad {

namespace {

struct LayerNormOnly {
  static constexpr std::string_view name = "layer norm";
  static constexpr Value forward(Value x) { return layer_norm(x); }
};
struct RmsNormOnly {
  static constexpr std::string_view name = "rms norm";
  static constexpr Value forward(Value x) { return rms_norm(x); }
};
/// GroupNorm as RWKV-5 uses it: of its input divided by 8.
struct DividedGroupNorm {
  static constexpr std::string_view name = "group norm, divided";
  static constexpr Value forward(Value x) {
    Scope scope(x, "ln_x");
    return group_norm(x * (1.0 / 8), 4);
  }
};
/// And as RWKV-6 does: with a larger epsilon instead.
struct WideGroupNorm {
  static constexpr std::string_view name = "group norm, wide";
  static constexpr Value forward(Value x) {
    Scope scope(x, "ln_x");
    return group_norm(x, 4, 64e-5);
  }
};

}  // namespace

TEST_CASE("norms agree with the reference") {
  testing::check_golden<LayerNormOnly, 32>("norm_layernorm_d32", 7);
  testing::check_golden<RmsNormOnly, 32>("norm_rmsnorm_d32", 7);
  testing::check_golden<DividedGroupNorm, 32>("norm_groupnorm_rwkv5_d32", 7);
  testing::check_golden<WideGroupNorm, 32>("norm_groupnorm_rwkv6_d32", 7);
}

}  // namespace mad
