// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How far the results of a kernel are from those of plain loops in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace mad::testing {

/// The largest difference of two numbers, in units of the largest number expected, or of 1 if that is more; infinite
/// where one is not a number.
template <class T>
double worst_error(const std::vector<T>& found, const std::vector<double>& expected) {
  double worst = 0, largest = 1;
  for (std::size_t k = 0; k < expected.size(); ++k) {
    const double difference = std::abs(static_cast<double>(found[k]) - expected[k]);
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference);
    largest = std::max(largest, std::abs(expected[k]));
  }
  return worst / largest;
}

}  // namespace mad::testing
