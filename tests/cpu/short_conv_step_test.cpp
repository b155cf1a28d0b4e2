// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/short_conv_step.hpp>

namespace {

using mad::Index;
using mad::testing::StridedRows;

struct Case {
  Index batch, length, longest;
  mad::cpu::ShortConvSizes sizes;
  bool bias;
};

/// Every token by itself against whole sequences.
template <class T>
void check(const Case& c, double tolerance) {
  const mad::cpu::ShortConvSizes& s = c.sizes;
  INFO("batch " << c.batch << ", length " << c.length << " of " << c.longest << ", channels " << s.channels
                << ", input width " << s.input_width << ", kernel " << s.kernel);
  std::mt19937 random(4);
  const Index rows = c.batch * c.length;
  const StridedRows<T> x(rows, s.input_width, random), weight(1, s.channels * s.kernel, random),
      bias(1, s.channels, random);
  const T* shift = c.bias ? bias.view().data : nullptr;
  StridedRows<T> expected(rows, s.channels);
  mad::cpu::Workspace workspace;
  mad::cpu::short_conv_forward<0, T>({c.batch, c.length, c.length}, s, x.view(), weight.view().data, shift,
                                     expected.view(), workspace);
  std::vector<T> state(static_cast<std::size_t>(c.batch * mad::cpu::short_conv_step_state(s, c.longest)));
  for (Index t = 0; t < c.length; ++t) {
    const StridedRows<T> x_t = x.token(t, c.length);
    StridedRows<T> found(c.batch, s.channels);
    mad::cpu::short_conv_step<T>(c.batch, c.longest, t, s, x_t.view(), weight.view().data, shift, found.view(),
                                 state.data(), workspace);
    found.check_token(expected, t, c.length, tolerance);
  }
}

}  // namespace

TEST_CASE("a short convolution of one token after the other is that of whole sequences") {
  const std::vector<Case> cases{
      {1, 1, 1, {.channels = 1, .input_width = 1, .kernel = 1}, true},
      {2, 12, 12, {.channels = 16, .input_width = 16, .kernel = 4}, true},
      {3, 9, 20, {.channels = 36, .input_width = 12, .kernel = 3}, false},
      {1, 11, 11, {.channels = 21, .input_width = 21, .kernel = 2}, true},
      {2, 2, 2, {.channels = 8, .input_width = 4, .kernel = 5}, true},
      {2, 5, 5, {.channels = 6, .input_width = 3, .kernel = 1}, true},
      {1, 40, 40, {.channels = 19, .input_width = 19, .kernel = 12}, false},
  };
  for (const Case& c : cases) {
    check<double>(c, 1e-14);
    check<float>(c, 1e-5);
  }
}

TEST_CASE("a short convolution keeps its last inputs") {
  CHECK(mad::cpu::short_conv_step_state({.channels = 12, .input_width = 4, .kernel = 4}, 100) == 3 * 4);
  CHECK(mad::cpu::short_conv_step_state({.channels = 12, .input_width = 4, .kernel = 4}, 2) == 2 * 4);
  CHECK(mad::cpu::short_conv_step_state({.channels = 12, .input_width = 4, .kernel = 1}, 100) == 0);
}
