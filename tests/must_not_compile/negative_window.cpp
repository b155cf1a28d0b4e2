// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A window of -1 means all keys; below that there is no meaning.
// expect: an option has the impossible value A
// expect: Diagnosis<.*, 16, .*bad_option, -2, -1, [1-9]
// at most: 40 lines
#include <mad/layers/attention.hpp>

#ifdef MAD_MUST_COMPILE
constexpr int window = -1;
#else
constexpr int window = -2;
#endif

struct Mixer {
  static constexpr std::string_view name = "mixer";
  static constexpr mad::Value forward(mad::Value x) {
    return attention(x, x, x, {.heads = 2, .kv_heads = 2, .window = window});
  }
};
static_assert(mad::Lowered<Mixer, 16>::output_width == 16);
