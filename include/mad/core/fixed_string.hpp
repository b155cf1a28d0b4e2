// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Text that can live in compile-time data.
#pragma once

#include <cstddef>
#include <string_view>

namespace mad {

/// At most `Capacity` characters, stored in place. Appending past the end sets `overflow` instead of failing, so that
/// a constant evaluation can go on and report the mistake with its own words.
template <int Capacity>
struct FixedString {
  char text[Capacity + 1]{};
  int size = 0;
  bool overflow = false;

  constexpr FixedString() = default;
  constexpr FixedString(std::string_view from) { append(from); }

  constexpr void append(std::string_view from) {
    for (char c : from) {
      if (size == Capacity) {
        overflow = true;
        return;
      }
      text[size++] = c;
    }
  }
  constexpr std::string_view view() const { return {text, static_cast<std::size_t>(size)}; }
};

}  // namespace mad
