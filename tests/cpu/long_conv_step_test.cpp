// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/long_conv.hpp>
#include <mad/cpu/kernels/long_conv/step.hpp>

namespace {

using mad::Index;
using mad::testing::StridedRows;

struct Case {
  Index batch, length, longest, channels, filters;
};

/// Every token by itself against whole sequences.
template <class T>
void check(const Case& c, double tolerance) {
  INFO("batch " << c.batch << ", length " << c.length << " of " << c.longest << ", channels " << c.channels
                << ", filters " << c.filters);
  std::mt19937 random(5);
  const Index rows = c.batch * c.length;
  const StridedRows<T> u(rows, c.channels, random), filter(c.longest, c.filters, random), skip(1, c.filters, random);
  StridedRows<T> expected(rows, c.channels);
  mad::cpu::Workspace workspace;
  const mad::cpu::LongConv<T> whole(c.length, c.channels, c.filters);
  std::vector<T> prepared(static_cast<std::size_t>(whole.prepared_size()));
  whole.prepare(filter.view(), skip.view().data, prepared.data(), workspace);
  whole.forward(c.batch, u.view(), prepared.data(), expected.view(), workspace);
  std::vector<T> state(static_cast<std::size_t>(c.batch * mad::cpu::long_conv_step_state(c.longest, c.channels)));
  for (Index t = 0; t < c.length; ++t) {
    const StridedRows<T> u_t = u.token(t, c.length);
    StridedRows<T> found(c.batch, c.channels);
    mad::cpu::long_conv_step<T>(c.batch, c.longest, t, c.channels, c.filters, u_t.view(), filter.view(),
                                skip.view().data, found.view(), state.data());
    found.check_token(expected, t, c.length, tolerance);
  }
}

}  // namespace

TEST_CASE("a long convolution of one token after the other is that of whole sequences") {
  // Short ones are computed as sums, long ones by transforms.
  const std::vector<Case> cases{{1, 1, 1, 1, 1},     {2, 7, 7, 16, 16},   {3, 20, 33, 12, 4},  {1, 33, 33, 37, 37},
                                {2, 61, 61, 72, 72}, {1, 128, 200, 6, 3}, {2, 100, 100, 15, 5}};
  for (const Case& c : cases) {
    check<double>(c, 1e-12);
    check<float>(c, 1e-4);
  }
}

TEST_CASE("a long convolution keeps all inputs") { CHECK(mad::cpu::long_conv_step_state(100, 12) == 1200); }
