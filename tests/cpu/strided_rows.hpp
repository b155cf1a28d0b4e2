// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows that lie further apart than they are wide, as those of a slice do, with random numbers in them.
#pragma once

#include <mad/core/view.hpp>

#include <algorithm>
#include <catch.hpp>
#include <cmath>
#include <random>
#include <vector>

namespace mad::testing {

template <class T>
class StridedRows {
public:
  static constexpr Index gap = 3;
  static constexpr T mark = T(77);

  /// Rows that nobody has written.
  StridedRows(Index rows, Index width)
      : rows_(rows), width_(width), values_(static_cast<std::size_t>(rows * (width + gap)), mark) {}

  /// Uniform random numbers between \p low and \p high.
  StridedRows(Index rows, Index width, std::mt19937& random, double low = -1, double high = 1)
      : StridedRows(rows, width) {
    std::uniform_real_distribution<double> draw(low, high);
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < width; ++c) view().row(r)[c] = static_cast<T>(draw(random));
  }

  View<T> view() { return {values_.data(), width_ + gap}; }
  View<const T> view() const { return {values_.data(), width_ + gap}; }

  /// Rows t, length + t, 2 length + t ...: one token of each sequence.
  StridedRows token(Index t, Index length) const {
    StridedRows picked(rows_ / length, width_);
    for (Index b = 0; b < picked.rows_; ++b) std::copy_n(view().row(b * length + t), width_, picked.view().row(b));
    return picked;
  }

  /// Fails if the marks between the rows are gone, or these rows, which are rows t, length + t ... of \p expected, are
  /// further off than \p tolerance.
  void check_token(const StridedRows& expected, Index t, Index length, double tolerance) const {
    double error = 0;
    for (Index b = 0; b < rows_; ++b) {
      for (Index c = 0; c < width_; ++c) {
        const T found = view().row(b)[c];
        const double off = std::abs(static_cast<double>(found) - expected.view().row(b * length + t)[c]);
        error = std::isfinite(found) ? std::max(error, off) : INFINITY;
      }
      for (Index c = width_; c < width_ + gap; ++c) REQUIRE(view().row(b)[c] == mark);
    }
    INFO("position " << t);
    REQUIRE(error <= tolerance);
  }

private:
  Index rows_, width_;
  std::vector<T> values_;
};

}  // namespace mad::testing
