// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// SHA-256 (FIPS 180-4), to compare whole arrays with recorded hashes.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace mad::testing {

namespace detail {

/// First 32 bits of the fraction of `root`, which must be the square or cube root of a small prime. Exact: a long
/// double leaves 60 bits for it.
inline std::uint32_t fraction_bits(long double root) {
  return static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0L);
}

struct Sha256Constants {
  std::array<std::uint32_t, 8> initial{};
  std::array<std::uint32_t, 64> round{};

  Sha256Constants() {
    std::size_t found = 0;
    for (int candidate = 2; found < round.size(); ++candidate) {
      bool prime = true;
      for (int divisor = 2; divisor * divisor <= candidate; ++divisor) prime = prime && candidate % divisor != 0;
      if (!prime) continue;
      if (found < initial.size()) initial[found] = fraction_bits(std::sqrt(static_cast<long double>(candidate)));
      round[found++] = fraction_bits(std::cbrt(static_cast<long double>(candidate)));
    }
  }
};

}  // namespace detail

/// Lower-case hexadecimal SHA-256 of `size` bytes.
inline std::string sha256(const void* data, std::size_t size) {
  static const detail::Sha256Constants constants;
  auto hash = constants.initial;

  std::vector<std::uint8_t> message(static_cast<const std::uint8_t*>(data),
                                    static_cast<const std::uint8_t*>(data) + size);
  message.push_back(0x80);
  while (message.size() % 64 != 56) message.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) {
    message.push_back(static_cast<std::uint8_t>(std::uint64_t{size} * 8 >> shift));
  }

  for (std::size_t block = 0; block < message.size(); block += 64) {
    std::array<std::uint32_t, 64> w{};
    for (std::size_t i = 0; i < 64; ++i) w[i / 4] |= std::uint32_t{message[block + i]} << (24 - 8 * (i % 4));
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = hash;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t first = h + s1 + ((e & f) ^ (~e & g)) + constants.round[i] + w[i];
      const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t second = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + first;
      d = c;
      c = b;
      b = a;
      a = first + second;
    }
    const std::array<std::uint32_t, 8> mixed{a, b, c, d, e, f, g, h};
    std::transform(hash.begin(), hash.end(), mixed.begin(), hash.begin(), [](auto x, auto y) { return x + y; });
  }

  std::string text;
  for (const std::uint32_t word : hash) {
    std::array<char, 9> digits{};
    std::snprintf(digits.data(), digits.size(), "%08x", static_cast<unsigned>(word));
    text += digits.data();
  }
  return text;
}

}  // namespace mad::testing
