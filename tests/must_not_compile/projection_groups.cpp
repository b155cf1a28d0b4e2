// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Hyena's 3 * 4 * 16 projected channels cannot be shared by 5 groups.
// expect: A must be a multiple of B
// expect: Diagnosis<mad::HyenaLayer<.*>, 16, .*not_divisible, 192, 5,
// at most: 40 lines
#include <mad/layers/hyena.hpp>

#ifdef MAD_MUST_COMPILE
constexpr int groups = 6;
#else
constexpr int groups = 5;
#endif
using Layer = mad::HyenaLayer<mad::HyenaOptions{.projection_groups = groups}>;
static_assert(mad::Lowered<Layer, 16>::output_width == 16);
