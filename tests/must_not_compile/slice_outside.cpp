// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A slice beyond the last column.
// expect: a slice reaches column A of a value that has only B columns
// expect: Diagnosis<Halves, 16, .*slice_outside, 20, 16, 17>
// at most: 40 lines
#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>

struct Halves {
  static constexpr std::string_view name = "halves";
  static constexpr mad::Value forward(mad::Value x) {
#ifdef MAD_MUST_COMPILE
    const int begin = x.width() / 2;
#else
    const int begin = x.width() - 4;
#endif
    const mad::Value right = slice(x, begin, x.width() / 2);
    return right * slice(x, 0, x.width() / 2);
  }
};
static_assert(mad::Lowered<Halves, 16>::output_width == 8);
