// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Turns a seed of any size into well mixed words: numpy's `SeedSequence` for a plain integer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mad::random {

/// Hash of an integer seed (O'Neill's `seed_seq` alternative as numpy implements it), a pool of four words.
/// `words` fills any number of output words from it; equal requests give equal words.
class SeedSequence {
public:
  using Pool = std::array<std::uint32_t, 4>;

  explicit SeedSequence(std::uint64_t seed) {
    const std::array<std::uint32_t, 2> words{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    mix(words);
  }

  /// A seed of any width as 32-bit words, least significant first. High zero words make no difference up to 128 bits;
  /// beyond, numpy drops them, and so must the caller.
  explicit SeedSequence(std::span<const std::uint32_t> entropy) { mix(entropy); }

  const Pool& pool() const { return pool_; }

  /// Fills `out` with 32-bit words.
  void words(std::span<std::uint32_t> out) const {
    std::uint32_t multiplier = 0x8b51f9ddu;
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint32_t value = pool_[i % pool_.size()] ^ multiplier;
      multiplier *= 0x58f38dedu;
      value *= multiplier;
      out[i] = value ^ (value >> 16);
    }
  }

  /// Fills `out` with 64-bit words: 32-bit words in pairs, the low half first.
  void words(std::span<std::uint64_t> out) const {
    std::uint32_t multiplier = 0x8b51f9ddu;
    const auto next = [&](std::size_t i) {
      std::uint32_t value = pool_[i % pool_.size()] ^ multiplier;
      multiplier *= 0x58f38dedu;
      value *= multiplier;
      return value ^ (value >> 16);
    };
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::uint64_t low = next(2 * i);
      const std::uint64_t high = next(2 * i + 1);
      out[i] = high << 32 | low;
    }
  }

private:
  std::uint32_t absorb(std::uint32_t value) {
    value ^= multiplier_;
    multiplier_ *= 0x931e8875u;
    value *= multiplier_;
    return value ^ (value >> 16);
  }

  static std::uint32_t blend(std::uint32_t a, std::uint32_t b) {
    const std::uint32_t value = 0xca01f9ddu * a - 0x4973f715u * b;
    return value ^ (value >> 16);
  }

  void mix(std::span<const std::uint32_t> entropy) {
    for (std::size_t i = 0; i < pool_.size(); ++i) pool_[i] = absorb(i < entropy.size() ? entropy[i] : 0);
    for (std::size_t source = 0; source < pool_.size(); ++source) {
      for (std::size_t target = 0; target < pool_.size(); ++target) {
        if (source != target) pool_[target] = blend(pool_[target], absorb(pool_[source]));
      }
    }
    for (std::size_t i = pool_.size(); i < entropy.size(); ++i) {
      for (std::uint32_t& word : pool_) word = blend(word, absorb(entropy[i]));
    }
  }

  std::uint32_t multiplier_ = 0x43b0d7e5u;
  Pool pool_{};
};

}  // namespace mad::random
