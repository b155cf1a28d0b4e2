// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/gated_short_conv.hpp>

namespace {

using mad::Index;
using mad::testing::StridedRows;

struct Case {
  Index batch, length, longest, channels, input_width;
};

/// Every token by itself against whole sequences.
template <int Kernel, class T>
void check(const Case& c, double tolerance) {
  const mad::cpu::ShortConvSizes sizes{.channels = c.channels, .input_width = c.input_width, .kernel = Kernel};
  INFO("batch " << c.batch << ", length " << c.length << " of " << c.longest << ", channels " << c.channels
                << ", input width " << c.input_width << ", kernel " << Kernel);
  std::mt19937 random(4);
  const Index rows = c.batch * c.length, outputs = c.channels / 3;
  const StridedRows<T> x(rows, c.input_width, random), weight(1, c.channels * Kernel, random),
      bias(1, c.channels, random);
  StridedRows<T> gate(rows, outputs), product(rows, outputs);
  mad::cpu::Workspace workspace;
  mad::cpu::gated_short_conv_forward<Kernel, T>({c.batch, c.length, c.length}, sizes, x.view(), weight.view().data,
                                                bias.view().data, gate.view(), product.view(), workspace);
  std::vector<T> state(static_cast<std::size_t>(c.batch * mad::cpu::short_conv_step_state(sizes, c.longest)));
  for (Index t = 0; t < c.length; ++t) {
    const StridedRows<T> x_t = x.token(t, c.length);
    StridedRows<T> gate_t(c.batch, outputs), product_t(c.batch, outputs);
    mad::cpu::gated_short_conv_step<T>(c.batch, c.longest, t, sizes, x_t.view(), weight.view().data, bias.view().data,
                                       gate_t.view(), product_t.view(), state.data(), workspace);
    gate_t.check_token(gate, t, c.length, tolerance);
    product_t.check_token(product, t, c.length, tolerance);
  }
}

}  // namespace

TEST_CASE("a gated short convolution of one token after the other is that of whole sequences") {
  for (const Case& c : {Case{1, 1, 1, 3, 1}, Case{2, 12, 12, 48, 48}, Case{3, 9, 20, 60, 15}, Case{1, 11, 11, 63, 21},
                        Case{2, 2, 2, 24, 2}, Case{1, 40, 40, 192, 48}}) {
    check<1, double>(c, 1e-14);
    check<3, double>(c, 1e-14);
    check<3, float>(c, 1e-5);
    check<5, double>(c, 1e-14);
  }
}
