// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The reference's models that the device is compared with.
#pragma once

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mh_hyena.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/model.hpp>

namespace mad::testing::golden {

using Heads4 = Attention<AttentionOptions{.heads = 4}>;
using SmallHyena = HyenaLayer<HyenaOptions{.inner_factor = 2}>;
using SmallMultiHeadHyena = MultiHeadHyenaLayer<MultiHeadHyenaOptions{.head_width = 4}>;
using SmallMoe = MoeMlpLayer<MoeMlpOptions{.inner = 4}>;
using SmallTimeMixer = RWKV6TimeMixerLayer<RWKVTimeMixerOptions{.head_dim = 8}>;

using AttentionNet = Stack<Heads4, SwiGLU>;
using AttentionHyenaNet = Stack<Heads4, SwiGLU, SmallHyena, SwiGLU>;
using HyenaOnlyNet = Stack<SmallHyena, SwiGLU>;
using MambaTwice = Repeat<2, Mamba>;
using ExpertsNet = Stack<SmallMultiHeadHyena, SmallMoe, Heads4, SmallMoe>;
using Finch = Stack<SmallTimeMixer, RWKV6ChannelMixer>;
using HyenaMamba = Stack<Hyena, Mamba>;
using AttentionExperts = Stack<Heads4, SmallMoe>;

using Hybrid = LanguageModel<AttentionHyenaNet, 16>;
using HybridRms = LanguageModel<AttentionHyenaNet, 16, Norm::rms_norm>;
using TwoMambas = LanguageModel<MambaTwice, 32, Norm::rms_norm>;
using Experts = LanguageModel<ExpertsNet, 16>;
using Rwkv6 = LanguageModel<Finch, 16>;
using Positioned = LanguageModel<AttentionNet, 16>;
using AttentionEncoder = AutoEncoder<AttentionNet, 16, Norm::layer_norm>;
using WiderAttentionEncoder = AutoEncoder<AttentionNet, 32, Norm::rms_norm>;
using HyenaEncoder = AutoEncoder<HyenaOnlyNet, 16, Norm::layer_norm>;
using HyenaEncoderRms = AutoEncoder<HyenaOnlyNet, 16, Norm::rms_norm>;
using TracedAttention = LanguageModel<AttentionNet, 32>;
using TracedHyenaMamba = LanguageModel<HyenaMamba, 32>;
using TracedExperts = LanguageModel<AttentionExperts, 16>;

}  // namespace mad::testing::golden
