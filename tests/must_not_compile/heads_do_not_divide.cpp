// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Three heads on a width of 16.
// expect: A must be a multiple of B
// expect: Diagnosis<mad::Attention<.*>, 16, .*not_divisible, 16, 3, [1-9]
// at most: 40 lines
#include <mad/layers/attention.hpp>

#ifdef MAD_MUST_COMPILE
constexpr int heads = 4;
#else
constexpr int heads = 3;
#endif
using Layer = mad::Attention<mad::AttentionOptions{.heads = heads}>;
static_assert(mad::Lowered<Layer, 16>::output_width == 16);
