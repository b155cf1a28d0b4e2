// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/attention.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::SingleHeadSlidingAttn, mad::SlidingAttn>();
}
