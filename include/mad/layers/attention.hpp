// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention: multi-head, single-head, sliding window, grouped key/value heads.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/attention.hpp>
#include <mad/ops/linear.hpp>

namespace mad {

struct AttentionOptions {
  int heads = 0;       ///< 0: as many as `head_width` gives
  int head_width = 8;  ///< used where `heads` is 0; 0 for a single head of the whole width
  int kv_heads = 0;    ///< key/value heads, a divisor of heads; 0: as many as heads
  int rotary = -1;     ///< rotated dimensions per head; -1: all of them; 0: none
  int window = -1;     ///< keys visible before a query's own; -1: all
  bool bias = true;    ///< of both projections
  double rotary_base = 10000;
  bool interleaved = false;  ///< rotate neighbouring pairs instead of halves
  double scale = 0;          ///< of the scores; 0: 1/sqrt(head width)
};

/// Causal softmax attention (Vaswani et al. 2017) with rotary positions (Su et al. 2021): one packed projection to
/// query, key and value, attention per head, output projection. The reference's `attention` family.
template <AttentionOptions O>
struct Attention {
  static constexpr bool single = O.heads == 1 || (O.heads == 0 && O.head_width == 0);
  static constexpr bool sliding = O.window >= 0;
  static constexpr std::string_view name =
      single ? (sliding ? "sliding-attention" : "attention") : (sliding ? "mh-sliding-attention" : "mh-attention");
  static constexpr std::string_view shorthand = single ? (sliding ? "As" : "A") : (sliding ? "mAs" : "mA");

  static constexpr Value forward(Value x) {
    const int width = x.width();
    // Either the number of heads is given, or their width; 0 for both is a single head.
    const int divisor = O.heads > 0 ? O.heads : O.head_width > 0 ? O.head_width : 1;
    if (width % divisor != 0) {
      x.graph->fail(Fault::not_divisible, width, divisor, __builtin_LINE());
      return x;
    }
    const int heads = O.heads > 0 ? O.heads : O.head_width > 0 ? width / O.head_width : 1;
    const int kv_heads = O.kv_heads > 0 ? O.kv_heads : heads;
    const int head_width = width / heads;
    const int kv_width = kv_heads * head_width;
    const Value qkv = linear(x, width + 2 * kv_width, "Wqkv", {.bias = O.bias});
    const Value mixed =
        attention(slice(qkv, 0, width), slice(qkv, width, kv_width), slice(qkv, width + kv_width, kv_width),
                  {.heads = heads,
                   .kv_heads = kv_heads,
                   .window = O.window,
                   .rotary = O.rotary < 0 ? head_width / 2 * 2 : O.rotary,
                   .interleaved = O.interleaved,
                   .rotary_base = O.rotary_base,
                   .scale = O.scale});
    return linear(mixed, width, "out_proj", {.bias = O.bias});
  }
};

/// The reference's `mh-attention`: heads of width 8, fully rotated.
struct Attn : Attention<AttentionOptions{}> {};
/// The reference's `mh-sliding-attention`: the same with a window of 32 keys before the query's own.
struct SlidingAttn : Attention<AttentionOptions{.window = 32}> {};
/// The reference's `attention`: a single head of the whole width.
struct SingleHeadAttn : Attention<AttentionOptions{.head_width = 0}> {};
/// The reference's `sliding-attention`.
struct SingleHeadSlidingAttn : Attention<AttentionOptions{.head_width = 0, .window = 32}> {};

}  // namespace mad
