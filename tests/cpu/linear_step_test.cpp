// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/linear_step.hpp>

namespace {

using mad::Index;
using mad::testing::StridedRows;

/// Against the sums of the definition, in double; then a row by itself, which must have the same bits.
template <class T>
void check(Index rows, Index in, Index out, bool with_bias, double tolerance) {
  INFO("rows " << rows << ", in " << in << ", out " << out);
  std::mt19937 random(7);
  const StridedRows<T> x(rows, in, random), weight(1, in * out, random), bias(1, out, random);
  const T* shift = with_bias ? bias.view().data : nullptr;
  const T* w = weight.view().data;
  StridedRows<T> expected(rows, out);
  for (Index r = 0; r < rows; ++r)
    for (Index o = 0; o < out; ++o) {
      double sum = with_bias ? static_cast<double>(shift[o]) : 0;
      for (Index i = 0; i < in; ++i)
        sum += static_cast<double>(x.view().row(r)[i]) * static_cast<double>(w[o * in + i]);
      expected.view().row(r)[o] = static_cast<T>(sum);
    }
  StridedRows<T> found(rows, out);
  mad::cpu::linear_step<T>(rows, in, out, x.view(), w, shift, found.view());
  found.check_token(expected, 0, 1, tolerance);
  const StridedRows<T> last = x.token(rows - 1, rows);
  StridedRows<T> alone(1, out);
  mad::cpu::linear_step<T>(1, in, out, last.view(), w, shift, alone.view());
  alone.check_token(found, rows - 1, rows, 0);
}

}  // namespace

TEST_CASE("a linear map of a few rows") {
  const Index sizes[][3] = {{1, 1, 1}, {1, 128, 384}, {3, 37, 19}, {2, 5, 8}, {8, 64, 7}, {1, 20, 33}};
  for (const auto& [rows, in, out] : sizes) {
    check<double>(rows, in, out, true, 1e-13);
    check<float>(rows, in, out, false, 1e-4);
  }
}
