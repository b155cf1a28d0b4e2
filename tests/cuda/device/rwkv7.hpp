// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of RWKV-7.
#pragma once

#include <mad/layers/rwkv7.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// One head, whose rows are spread over several warps.
struct WideHeadRWKV7 : RWKV7TimeMixerLayer<RWKV7TimeMixerOptions{.head_dim = 64}> {};
/// Heads whose columns do not divide among the lanes of a row.
struct OddHeadRWKV7 : RWKV7TimeMixerLayer<RWKV7TimeMixerOptions{.head_dim = 9}> {};

using RWKV7Nets = Stack<RWKV7TimeMixer, RWKV7ChannelMixer>;
using WideRWKV7Net = Stack<WideHeadRWKV7>;
using OddRWKV7Net = Stack<OddHeadRWKV7>;

}  // namespace mad::testing
