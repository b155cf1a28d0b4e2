// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows of bfloat16 as bits, for tests of kernels by themselves.
#pragma once

#include <mad/core/shape.hpp>

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

namespace mad::testing {

inline constexpr std::uint16_t not_a_number = 0x7fc0;
/// Half a step of bfloat16: rounding alone may be as far off, and is in a row of few numbers.
inline constexpr double half_step = 1.0 / 256;

inline float value_of(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

/// Random numbers in columns [begin, end) of rows; all others are NaN.
inline std::vector<std::uint16_t> random_rows(Index rows, Index begin, Index end, Index stride,
                                              std::mt19937& generator) {
  std::normal_distribution<float> normal(0.1f);
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(rows * stride), not_a_number);
  for (Index r = 0; r < rows; ++r)
    for (Index c = begin; c < end; ++c)
      bits[static_cast<std::size_t>(r * stride + c)] =
          static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(normal(generator)) >> 16);
  return bits;
}
inline std::vector<std::uint16_t> random_rows(Index rows, Index columns, Index stride, std::mt19937& generator) {
  return random_rows(rows, 0, columns, stride, generator);
}

}  // namespace mad::testing
