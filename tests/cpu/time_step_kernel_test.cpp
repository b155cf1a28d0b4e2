// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/time_step.hpp>

#include <cmath>

namespace {

using mad::Index;
using mad::cpu::Pack;
using mad::testing::StridedRows;

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// Packs, and what is left of a row behind the last of them.
template <class T>
void check_rows(Index rows, Index columns, double tolerance) {
  INFO(rows << " rows, " << columns << " columns");
  std::mt19937 random(5);
  StridedRows<T> x(rows, columns, random, -30, 30), expected(rows, columns);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c)
      expected.view().row(r)[c] = static_cast<T>(softplus(static_cast<double>(x.view().row(r)[c])));
  mad::cpu::softplus_rows<T>(rows, columns, x.view());
  x.check_token(expected, 0, 1, tolerance);
}

/// From the value alone, against sigmoid(x) = e / (1 + e) of an x from -40 on; errors are relative to the slope.
template <class T>
void check_slope(double least, double tolerance) {
  for (double x = least; x < 20; x += 0.37) {
    INFO("x = " << x);
    const double e = std::exp(x);
    // What the value's rounding does to the slope: 1 - exp(-y) changes by no more, relative to itself, than y does.
    const T y = static_cast<T>(softplus(x));
    const double expected = e / (1 + e);
    REQUIRE(std::abs(mad::cpu::softplus_slope(y) - expected) <= tolerance * expected);
    alignas(64) T of_pack[Pack<T>::size];
    mad::cpu::softplus_slope(Pack<T>::all(y)).store(of_pack);
    for (const T slope : of_pack) REQUIRE(std::abs(slope - expected) <= tolerance * expected);
  }
}

}  // namespace

TEST_CASE("softplus of rows is computed where they lie", "[cpu][time_step]") {
  check_rows<double>(1, 1, 1e-14);
  check_rows<double>(3, 21, 1e-14);
  check_rows<float>(2, 67, 4e-6);
}

TEST_CASE("the slope of softplus is known from its value, however small", "[cpu][time_step]") {
  check_slope<double>(-40, 1e-15);
  check_slope<float>(-40, 1e-6);
}
