// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The numbers, the taps and the distance that the checks of the short convolutions against plain loops share.
#pragma once

#include <mad/cpu/kernels/short_conv.hpp>

#include <algorithm>
#include <catch.hpp>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace mad::testing {

using Numbers = std::vector<double>;

inline std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// Rows lie further apart than they are wide by this many numbers.
inline constexpr Index gap = 3;

/// Normal random numbers that a float holds exactly, the same for the same sizes.
class ShortConvNumbers {
public:
  ShortConvNumbers(const Shape& shape, const cpu::ShortConvSizes& sizes)
      : generator_(static_cast<unsigned>(shape.length * 100 + sizes.channels)) {}

  Numbers operator()(Index count) {
    Numbers result(z(count));
    for (double& x : result) x = static_cast<double>(static_cast<float>(normal_(generator_)));
    return result;
  }

private:
  std::mt19937 generator_;
  std::normal_distribution<double> normal_;
};

/// Calls `visit(tap, source)` for each tap of channel \p c that reaches a token of the sequence of token \p row: where
/// its weight and its input stand.
template <class Visit>
void for_taps(const Shape& shape, const cpu::ShortConvSizes& sizes, Index row, Index c, const Visit& visit) {
  const Index in = sizes.input_width + gap;
  for (Index j = std::max<Index>(0, sizes.kernel - 1 - row % shape.length); j < sizes.kernel; ++j)
    visit(z(c * sizes.kernel + j), z((row - (sizes.kernel - 1 - j)) * in + c % sizes.input_width));
}

template <class T>
std::vector<T> rounded(const Numbers& x) {
  std::vector<T> result;
  for (double value : x) result.push_back(static_cast<T>(value));
  return result;
}

/// The largest difference, in units of the largest number expected; infinite where one is not a number. \p offset is
/// what was there before a sum was added to it: the sum was rounded at that size too, so the unit is no smaller.
template <class T>
double distance(const std::vector<T>& found, const Numbers& expected, double offset = 0) {
  REQUIRE(found.size() == expected.size());
  double worst = 0, largest = std::max(std::abs(offset), 1e-300);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double value = static_cast<double>(found[i]) - offset;
    if (std::isnan(value)) return INFINITY;
    worst = std::max(worst, std::abs(value - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

}  // namespace mad::testing
