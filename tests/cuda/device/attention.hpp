// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of softmax attention, by what its kernels tell apart.
#pragma once

#include <mad/layers/attention.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// Heads of 8 channels: keys shared by four query heads each, half of the channels turned, a window that ends within
/// tiles.
struct SharedNarrowAttn : Attention<AttentionOptions{.heads = 8, .kv_heads = 2, .rotary = 4, .window = 300}> {};
/// Heads of 8 channels, all of which turn, without a window.
struct EightAttn : Attention<AttentionOptions{.head_width = 8}> {};
/// Heads of 16 channels.
struct SixteenAttn : Attention<AttentionOptions{.head_width = 16}> {};
/// Heads of 32 channels, in a window.
struct WiderAttn : Attention<AttentionOptions{.head_width = 32, .window = 70}> {};
/// Heads of 64 channels, of which two share their keys, in a window that is longer than a tile.
struct GroupedWiderAttn : Attention<AttentionOptions{.heads = 2, .kv_heads = 1, .window = 100}> {};
/// Heads of 40 channels, no multiple of 16, all of which share their keys; some channels turn, in neighbouring pairs; a
/// window that is shorter than a tile.
struct UnevenAttn
    : Attention<AttentionOptions{.heads = 3, .kv_heads = 1, .rotary = 16, .window = 20, .interleaved = true}> {};
/// A single head whose halves, which turn together, are no multiples of eight channels.
struct UnevenSingleAttn : Attention<AttentionOptions{.heads = 1}> {};
/// Scores so large that their bound is no base for the softmax; three heads, no rotation.
struct SharpAttn : Attention<AttentionOptions{.heads = 3, .rotary = 0, .scale = 30}> {};

using NarrowNet = Stack<SharedNarrowAttn, EightAttn, SixteenAttn>;
using WiderNet = Stack<WiderAttn>;
using GroupedWiderNet = Stack<GroupedWiderAttn>;
using UnevenNet = Stack<UnevenAttn, UnevenSingleAttn>;
using SharpNet = Stack<SharpAttn>;

}  // namespace mad::testing
