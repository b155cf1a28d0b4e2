// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The nets that are compared, one list for both devices.
#pragma once

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// Key/value heads shared by two query heads, half of the channels turned, in neighbouring pairs.
struct GroupedAttn
    : Attention<AttentionOptions{.heads = 4, .kv_heads = 2, .rotary = 8, .window = 11, .interleaved = true}> {};
/// No rotation, an odd head width.
struct OddAttn : Attention<AttentionOptions{.heads = 4, .rotary = 0, .bias = false}> {};
/// A filter for each pair of channels, an order that leaves blocks unused, no projection groups.
struct SharedHyena : HyenaLayer<HyenaOptions{.inner_factor = 1, .projection_groups = 1, .heads = 2}> {};
/// More channels per column than a thread has at once.
struct FoldedHyena : HyenaLayer<HyenaOptions{.projection_groups = 8}> {};
/// Gate and factors read the same columns.
struct NarrowHyena : HyenaLayer<HyenaOptions{.inner_factor = 2, .projection_groups = 6, .short_filter = 4}> {};
/// A column for every channel; all experts active.
struct AllHyenaExperts : HyenaExpertsLayer<HyenaExpertsOptions{.experts = 4, .active_experts = 4}> {};
/// More states, a time step of another rank, biases.
struct WideMamba : MambaLayer<MambaOptions{.state = 16, .conv = 3, .dt_rank = 5, .bias = true}> {};

using MultiHeadNet = Stack<Attn, SwiGLU>;
using SlidingNet = Stack<SlidingAttn, Mlp, GroupedAttn>;
using SingleHeadNet = Stack<SingleHeadAttn, SingleHeadSlidingAttn>;
using OddNet = Stack<OddAttn, SwiGLU>;
using HyenaNet = Stack<Hyena, SwiGLU, SharedHyena>;
using TiledHyenaNet = Stack<FoldedHyena, NarrowHyena, AllHyenaExperts>;
using MambaNet = Stack<Mamba, WideMamba>;
using MixedNet = Stack<Hyena, Attn, SwiGLU, Mamba>;

}  // namespace mad::testing
