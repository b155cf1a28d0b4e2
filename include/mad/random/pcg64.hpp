// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The bit generator under numpy's `default_rng`: PCG64 with a buffered half word.
#pragma once

#include <mad/random/seed_sequence.hpp>

#include <array>
#include <bit>
#include <cstdint>

namespace mad::random {

__extension__ using Uint128 = unsigned __int128;

/// Everything that determines the further output of a `Pcg64`, in words a file can hold.
struct Pcg64State {
  std::uint64_t state_high = 0;
  std::uint64_t state_low = 0;
  std::uint64_t increment_high = 0;
  std::uint64_t increment_low = 0;
  bool has_spare = false;   ///< numpy: `has_uint32`
  std::uint32_t spare = 0;  ///< numpy: `uinteger`; 0 when there is none

  friend bool operator==(const Pcg64State&, const Pcg64State&) = default;
};

/// PCG64: a 128-bit linear congruential generator with XSL-RR output (O'Neill 2014), as numpy seeds and reads it.
class Pcg64 {
public:
  explicit Pcg64(std::uint64_t seed) : Pcg64(SeedSequence(seed)) {}

  explicit Pcg64(const SeedSequence& seed) {
    std::array<std::uint64_t, 4> words{};
    seed.words(words);
    increment_ = 2 * join(words[2], words[3]) + 1;
    step();
    state_ += join(words[0], words[1]);
    step();
  }

  explicit Pcg64(const Pcg64State& saved)
      : state_(join(saved.state_high, saved.state_low)),
        increment_(join(saved.increment_high, saved.increment_low)),
        spare_(saved.has_spare ? saved.spare : 0),
        has_spare_(saved.has_spare) {}

  Pcg64State state() const {
    return {high(state_), low(state_), high(increment_), low(increment_), has_spare_, has_spare_ ? spare_ : 0};
  }

  /// A whole 64-bit word. Does not touch the spare half word.
  std::uint64_t next64() {
    step();
    return std::rotr(high(state_) ^ low(state_), static_cast<int>(high(state_) >> 58));
  }

  /// A 32-bit word: the spare one if there is one, else the low half of a fresh word, whose high half is then spare.
  std::uint32_t next32() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const std::uint64_t word = next64();
    spare_ = static_cast<std::uint32_t>(word >> 32);
    has_spare_ = true;
    return static_cast<std::uint32_t>(word);
  }

  bool has_spare() const { return has_spare_; }

private:
  static constexpr Uint128 join(std::uint64_t high, std::uint64_t low) { return Uint128{high} << 64 | low; }
  static constexpr std::uint64_t high(Uint128 value) { return static_cast<std::uint64_t>(value >> 64); }
  static constexpr std::uint64_t low(Uint128 value) { return static_cast<std::uint64_t>(value); }

  static constexpr Uint128 multiplier = Uint128{0x2360ed051fc65da4u} << 64 | 0x4385df649fccf645u;

  void step() { state_ = state_ * multiplier + increment_; }

  Uint128 state_ = 0;
  Uint128 increment_ = 0;
  std::uint32_t spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace mad::random
