// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Rotations turn pairs of columns.
// expect: an even rotary size
// expect: Diagnosis<mad::Attention<.*>, 16, .*not_divisible, 3, 2, [1-9]
// at most: 40 lines
#include <mad/layers/attention.hpp>

#ifdef MAD_MUST_COMPILE
constexpr int rotary = 4;
#else
constexpr int rotary = 3;
#endif
using Layer = mad::Attention<mad::AttentionOptions{.heads = 2, .rotary = rotary}>;
static_assert(mad::Lowered<Layer, 16>::output_width == 16);
