// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of linear recurrences: every kind of decay, bonus, normaliser, shared keys, and states that fill a block.
#pragma once

#include <mad/layers/gated_linear_attention.hpp>
#include <mad/layers/hgrn2.hpp>
#include <mad/layers/linear_attention.hpp>
#include <mad/layers/mamba2.hpp>
#include <mad/layers/retnet.hpp>
#include <mad/layers/rwkv5.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// A feature map without parameters.
struct EluLinearAttn : LinearAttention<LinearAttentionOptions{.feature_map = FeatureMap::elu}> {};
struct SingleHeadEluLinearAttn
    : LinearAttention<LinearAttentionOptions{.head_width = 0, .feature_map = FeatureMap::elu}> {};
/// Keys of twice the width, positive, so that the normaliser stays away from 0.
struct HedgehogLinearAttn : LinearAttention<LinearAttentionOptions{.feature_map = FeatureMap::hedgehog}> {};
/// Four heads, two of them to a group.
struct GroupedMamba2 : Mamba2Layer<Mamba2Options{.head_width = 32, .groups = 2}> {};

/// The recurrences of RWKV-6, RWKV-5 and RetNet without what normalises their heads, which would magnify the rounding
/// of outputs near 0 to any size: a bonus with decays of tokens, a bonus with decays that all tokens share, and one
/// shared decay per head, here with a gradient.
struct PlainRecurrences {
  static constexpr std::string_view name = "plain-recurrences";
  static constexpr Value forward(Value x) {
    const int D = x.width();
    const int heads = D / 16;
    const auto shared = [&](Name what, int width, double value) {
      return parameter(x, what, {.dims = {width}, .rank = 1, .initial = Initial::constant(value)});
    };
    const Value q = linear(x, D, "q_proj");
    const Value k = linear(x, D, "k_proj");
    const Value v = linear(x, D, "v_proj");
    const Value u = shared("bonus", D, 0.5);
    const Value finch =
        linear_recurrence_with_bonus(q, k, v, -softplus(linear(x, D, "decay_proj")), u, {.heads = heads});
    const Value eagle =
        linear_recurrence_with_bonus(k, q, v, -exp(shared("decay", D, -1)), u, {.heads = heads, .scale = 0.5});
    const Value retention = linear_recurrence(q, v, k, -exp(shared("head_decay", heads, -2)), {.heads = heads});
    return linear(finch + eagle + retention, D, "out_proj");
  }
};

/// Wide states whose keys and values are no multiples of 16 or 8 columns: decays of tokens and channels, half of them
/// so strong that little is left after one token, and two heads without.
struct WideRecurrences {
  static constexpr std::string_view name = "wide-recurrences";
  static constexpr Value forward(Value x) {
    const Value q = linear(x, 72, "q_proj");
    const Value k = linear(x, 72, "k_proj");
    const Value v = linear(x, 36, "v_proj");
    const Value decay = softplus(linear(x, 72, "decay_proj"));
    const Value log_decay = concat(slice(decay, 0, 36) * -0.1, slice(decay, 36, 36) * -8.0);
    const Value forgetful = linear_recurrence(q, k, v, log_decay, {.scale = 0.2});
    const Value plain = linear_recurrence(concat(q, k), concat(k, q), concat(v, v), {.heads = 2, .scale = 0.05});
    return linear(concat(forgetful, plain), x.width(), "out_proj");
  }
};

/// Narrow heads whose keys and values are no multiples of 8 or 4 columns: decays of tokens and channels, of which half
/// the heads have mild ones and half such that little is left after one token, with and without a bonus, and none.
struct NarrowRecurrences {
  static constexpr std::string_view name = "narrow-recurrences";
  static constexpr Value forward(Value x) {
    const Value q = linear(x, 24, "q_proj");
    const Value k = linear(x, 24, "k_proj");
    const Value v = linear(x, 40, "v_proj");
    const Value decay = softplus(linear(x, 24, "decay_proj"));
    const Value log_decay = concat(slice(decay, 0, 12) * -0.1, slice(decay, 12, 12) * -8.0);
    const Value u = parameter(x, "bonus", {.dims = {24}, .rank = 1, .initial = Initial::constant(0.5)});
    const Value forgetful = linear_recurrence(q, k, v, log_decay, {.heads = 4, .scale = 0.2});
    const Value finch = linear_recurrence_with_bonus(k, q, v, log_decay, u, {.heads = 4});
    const Value plain = linear_recurrence(q, k, v, {.heads = 4, .scale = 0.05});
    return linear(concat(forgetful, finch, plain), x.width(), "out_proj");
  }
};

// One layer each: normed heads make gradients sensitive to every rounding before.
using GatedAlone = Stack<GLA>;
using ExpandedAlone = Stack<HGRN2>;
using RetentionAlone = Stack<RetNet>;
using EagleAlone = Stack<RWKV5TimeMixer>;
using FinchAlone = Stack<RWKV6TimeMixer>;
using NormalisedAlone = Stack<EluLinearAttn>;
using HedgehogAlone = Stack<HedgehogLinearAttn>;
using GroupedMamba2Alone = Stack<GroupedMamba2>;
using PlainRecurrencesAlone = Stack<PlainRecurrences>;
using NarrowRecurrencesAlone = Stack<NarrowRecurrences>;
using WideLinearAlone = Stack<SingleHeadEluLinearAttn>;
using WideGatedAlone = Stack<SingleHeadGLA>;
using WideRecurrencesAlone = Stack<WideRecurrences>;

}  // namespace mad::testing
