// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/rwkv5.hpp>
#include <mad/layers/rwkv6.hpp>

namespace {
[[maybe_unused]] const bool compiled =
    compile<mad::RWKV5TimeMixer, mad::RWKV5ChannelMixer, mad::RWKV6TimeMixer, mad::RWKV6ChannelMixer>();
}
