// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Two parameters of one name could not be told apart in a checkpoint.
// expect: two parameters of this layer have the same name
// expect: Diagnosis<Twice, 16, .*name_repeated, 0, 1, 19>
// at most: 40 lines
#include <mad/graph/layer.hpp>
#include <mad/ops/linear.hpp>

#ifdef MAD_MUST_COMPILE
#define SECOND "second"
#else
#define SECOND "first"
#endif

struct Twice {
  static constexpr std::string_view name = "twice";
  static constexpr mad::Value forward(mad::Value x) {
    const mad::Value y = linear(x, 16, "first");
    return linear(y, 16, SECOND);
  }
};
static_assert(mad::Lowered<Twice, 16>::output_width == 16);
