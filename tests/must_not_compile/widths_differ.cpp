// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A sum of values of different widths.
// expect: two values that must have the same width have widths A and B
// expect: Diagnosis<Sum, 16, .*widths_differ, 16, 12,
// at most: 40 lines
#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>

struct Sum {
  static constexpr std::string_view name = "sum";
  static constexpr mad::Value forward(mad::Value x) {
#ifdef MAD_MUST_COMPILE
    return x + linear(x, 16, "w");
#else
    return x + linear(x, 12, "w");
#endif
  }
};
static_assert(mad::Lowered<Sum, 16>::output_width == 16);
