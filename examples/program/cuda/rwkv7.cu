// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/rwkv7.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::RWKV7TimeMixer, mad::RWKV7ChannelMixer>();
}
