// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Random numbers, choices and shuffles, number for number those of numpy's `Generator` (numpy 1.24, `default_rng`).
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/random/pcg64.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace mad::random {

/// A stream of random numbers. The order of the calls is part of the result: one call more or less shifts everything
/// after it. Values are those of numpy; the names are numpy's too, apart from `below`, which is both `integers(0, n)`
/// and `choice(n)`.
class Generator {
public:
  explicit Generator(std::uint64_t seed) : bits_(seed) {}
  explicit Generator(const SeedSequence& seed) : bits_(seed) {}

  /// Continues where a generator was when `state()` was taken.
  explicit Generator(const Pcg64State& saved) : bits_(saved) {}

  Pcg64State state() const { return bits_.state(); }

  Pcg64& bits() { return bits_; }

  /// A double in [0, 1) with 53 random bits. Consumes one 64-bit word.
  double random() { return static_cast<double>(bits_.next64() >> 11) * 0x1p-53; }

  /// An integer in [0, n), for 1 <= n <= 2^63, without bias (Lemire 2019: multiply and reject).
  /// Consumes nothing for n = 1, 32-bit words up to n = 2^32, 64-bit words above.
  /// \throws Error if n is out of range: there is nothing to choose from.
  std::int64_t below(std::int64_t n) {
    if (n < 1) throw Error(message({"cannot draw one of ", n, " candidates. There must be at least one."}));
    return static_cast<std::int64_t>(below_unsigned(static_cast<std::uint64_t>(n)));
  }

  /// As `below`, for the whole range numpy offers: n up to 2^63 as an unsigned number. n must not be 0.
  std::uint64_t below_unsigned(std::uint64_t n) {
    constexpr std::uint64_t two_to_32 = std::uint64_t{1} << 32;
    if (n == 1) return 0;
    if (n < two_to_32) return below_narrow(static_cast<std::uint32_t>(n));
    if (n == two_to_32) return bits_.next32();
    return below_wide(n);
  }

  /// One of the items, by `below`. \throws Error if there are none.
  template <class Item>
  const Item& choice(std::span<const Item> items) {
    return items[static_cast<std::size_t>(below(static_cast<std::int64_t>(items.size())))];
  }

  /// Exchanges the items in place as numpy shuffles a Python *list*: from the last position down, each with a position
  /// found by masking and rejecting. (numpy shuffles arrays and draws integers by other rules.)
  /// \throws Error for more than 2^32 items.
  template <class Item>
  void shuffle(std::span<Item> items) {
    // Positions are drawn in blocks, ahead of the exchanges: neither waits for the other, and the mispredicted
    // branch of a rejection is gone. What is consumed, and in which order, stays the same.
    if (items.size() > std::size_t{1} << 32) throw Error("cannot shuffle a list of more than 2^32 items.");
    std::array<std::uint32_t, 1024> partners;
    std::size_t last = items.size();
    while (last > 1) {
      --last;
      // All positions of a block share one mask: they have the same bit length.
      const std::size_t lowest = std::max<std::size_t>(std::bit_floor(last), 1);
      const std::size_t count = std::min(last - lowest + 1, partners.size());
      draw_partners(static_cast<std::uint32_t>(last), std::span(partners).first(count));
      for (std::size_t n = 0; n < count; ++n) std::swap(items[last - n], items[partners[n]]);
      last -= count - 1;
    }
  }

private:
  std::uint32_t below_narrow(std::uint32_t n) {
    std::uint64_t product = std::uint64_t{bits_.next32()} * n;
    if (static_cast<std::uint32_t>(product) < n) {
      const std::uint32_t threshold = (0u - n) % n;
      while (static_cast<std::uint32_t>(product) < threshold) product = std::uint64_t{bits_.next32()} * n;
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

  std::uint64_t below_wide(std::uint64_t n) {
    Uint128 product = Uint128{bits_.next64()} * n;
    if (static_cast<std::uint64_t>(product) < n) {
      const std::uint64_t threshold = (std::uint64_t{0} - n) % n;
      while (static_cast<std::uint64_t>(product) < threshold) product = Uint128{bits_.next64()} * n;
    }
    return static_cast<std::uint64_t>(product >> 64);
  }

  /// partners[n] is uniform in [0, last - n], each from as many 32-bit words as it takes, none more.
  void draw_partners(std::uint32_t last, std::span<std::uint32_t> partners) {
    const std::uint32_t mask = ~std::uint32_t{0} >> std::countl_zero(last);
    const std::size_t count = partners.size();
    std::uint32_t* const out = partners.data();
    Pcg64 bits = bits_;  // a copy, so that it stays in registers
    std::size_t n = 0;
    // Writes the candidate in any case and moves on only if it is kept.
    const auto offer = [&](std::uint32_t word) {
      const std::uint32_t candidate = word & mask;
      out[n] = candidate;
      n += static_cast<std::size_t>(std::size_t{candidate} + n <= last);
    };
    if (bits.has_spare()) offer(bits.next32());
    while (n + 2 <= count) {
      const std::uint64_t word = bits.next64();
      offer(static_cast<std::uint32_t>(word));
      offer(static_cast<std::uint32_t>(word >> 32));
    }
    while (n < count) offer(bits.next32());
    bits_ = bits;
  }

  Pcg64 bits_;
};

}  // namespace mad::random
