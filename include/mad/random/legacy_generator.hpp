// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// numpy's old global generator, `numpy.random.seed` and `numpy.random.randint`: MT19937.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mad::random {

/// Everything that determines the further output of a `LegacyGenerator`.
struct LegacyState {
  std::array<std::uint32_t, 624> key{};
  std::uint32_t position = 0;  ///< 0 .. 624; at 624 the key is regenerated before the next word

  friend bool operator==(const LegacyState&, const LegacyState&) = default;
};

/// The Mersenne twister (Matsumoto and Nishimura 1998), seeded with one integer as numpy's legacy interface does it.
class LegacyGenerator {
public:
  explicit LegacyGenerator(std::uint32_t seed) {
    std::uint32_t word = seed;
    for (std::uint32_t i = 0; i < length; ++i) {
      state_.key[i] = word;
      word = 1812433253u * (word ^ (word >> 30)) + i + 1;
    }
    state_.position = length;
  }

  /// Continues where a generator was when `state()` was taken. \throws Error if the position is out of range.
  explicit LegacyGenerator(const LegacyState& saved) : state_(saved) {
    if (saved.position > length) {
      throw Error(
          message({"saved MT19937 state: position is ", saved.position, ", must be 0 .. 624. The state is damaged."}));
    }
  }

  const LegacyState& state() const { return state_; }

  std::uint32_t next32() {
    if (state_.position == length) regenerate();
    std::uint32_t word = state_.key[state_.position++];
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c5680u;
    word ^= (word << 15) & 0xefc60000u;
    return word ^ (word >> 18);
  }

  /// Two 32-bit words, the first one in the high half.
  std::uint64_t next64() {
    const std::uint64_t high = next32();
    return high << 32 | next32();
  }

  /// `randint(0, n)`: an integer in [0, n), by masking and rejecting. Consumes nothing for n = 1.
  /// \throws Error if n < 1.
  std::int64_t randint(std::int64_t n) {
    if (n < 1) throw Error(message({"cannot draw one of ", n, " candidates. There must be at least one."}));
    return static_cast<std::int64_t>(randint_unsigned(static_cast<std::uint64_t>(n)));
  }

  /// As `randint`, with n up to 2^63 as an unsigned number. n must not be 0.
  std::uint64_t randint_unsigned(std::uint64_t n) {
    const std::uint64_t range = n - 1;
    if (range == 0) return 0;
    const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(range);
    const bool wide = range > 0xffffffffu;
    std::uint64_t value;
    do {
      value = (wide ? next64() : next32()) & mask;
    } while (value > range);
    return value;
  }

private:
  static constexpr std::uint32_t length = 624;

  void regenerate() {
    auto& key = state_.key;
    for (std::size_t i = 0; i < length; ++i) {
      const std::uint32_t word = (key[i] & 0x80000000u) | (key[(i + 1) % length] & 0x7fffffffu);
      key[i] = key[(i + 397) % length] ^ (word >> 1) ^ ((word & 1u) != 0 ? 0x9908b0dfu : 0u);
    }
    state_.position = 0;
  }

  LegacyState state_;
};

}  // namespace mad::random
