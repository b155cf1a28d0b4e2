// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the tests of recurrences with matrix states share: packed numbers, rows with gaps, and the core fixtures.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/train/safetensors.hpp>

#include <catch.hpp>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace mad::testing {

using Numbers = std::vector<double>;

inline std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// Normal numbers that are exact in float, the same for every precision.
inline Numbers draw(Index count, unsigned seed, double deviation = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, deviation);
  Numbers result(z(count));
  for (double& x : result) x = static_cast<double>(static_cast<float>(normal(generator)));
  return result;
}

/// max |found - expected| over max |expected|, infinite where something is not finite.
inline double distance(const Numbers& found, const Numbers& expected) {
  REQUIRE(found.size() == expected.size());
  double worst = 0, largest = 1e-30;
  for (std::size_t i = 0; i < found.size(); ++i) {
    worst = std::isfinite(found[i]) ? std::max(worst, std::abs(found[i] - expected[i])) : INFINITY;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

/// Rows of `width` numbers with a gap behind each that nobody may touch.
template <class T>
class Rows {
public:
  Rows(const Numbers& packed, Index width) : width_(width) {
    const Index rows = static_cast<Index>(packed.size()) / width;
    values_.assign(z(rows * stride()), T(77));
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < width; ++c) values_[z(r * stride() + c)] = static_cast<T>(packed[z(r * width + c)]);
  }
  View<T> view() { return {values_.data(), stride()}; }
  View<const T> view() const { return {values_.data(), stride()}; }
  Numbers packed() const {
    Numbers result;
    bool intact = true;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (static_cast<Index>(i) % stride() < width_)
        result.push_back(static_cast<double>(values_[i]));
      else
        intact = intact && values_[i] == T(77);
    }
    REQUIRE(intact);
    return result;
  }

private:
  static constexpr Index gap = 3;
  Index stride() const { return width_ + gap; }
  Index width_;
  std::vector<T> values_;
};

/// A fixture of a bare recurrence: tensors (batch, heads, length[, width]).
class CoreFixture {
public:
  explicit CoreFixture(const std::string& name)
      : file_(train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/" + name + ".safetensors")) {}

  const std::vector<Index>& dims(const std::string& name) const { return file_.shape(name); }
  bool contains(const std::string& name) const { return file_.contains(name); }
  Numbers values(const std::string& name) const { return file_.values<double>(name); }

  /// The tensor as rows of tokens, heads side by side.
  Numbers tokens(const std::string& name) const {
    const std::vector<Index>& d = dims(name);
    const Index width = d.size() > 3 ? d[3] : 1;
    const Numbers from = values(name);
    Numbers to(from.size());
    for (Index b = 0; b < d[0]; ++b)
      for (Index h = 0; h < d[1]; ++h)
        for (Index t = 0; t < d[2]; ++t)
          for (Index i = 0; i < width; ++i)
            to[z(((b * d[2] + t) * d[1] + h) * width + i)] = from[z(((b * d[1] + h) * d[2] + t) * width + i)];
    return to;
  }

private:
  train::Safetensors file_;
};

}  // namespace mad::testing
