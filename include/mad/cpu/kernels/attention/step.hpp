// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal softmax attention of one more token, from the keys and values of those before it.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/attention/layout.hpp>
#include <mad/cpu/kernels/rotary.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <numbers>

namespace mad::cpu {

/// Tokens whose keys and values are kept for a sequence of up to \p longest tokens: what the window shows, else all.
constexpr Index attention_kept(const AttentionSizes& sizes, Index longest) {
  return sizes.window >= 0 ? std::min<Index>(sizes.window + 1, longest) : longest;
}

/// Numbers that `attention_step` keeps for one sequence.
constexpr Index attention_step_state(const AttentionSizes& sizes, Index longest) {
  return 2 * attention_kept(sizes, longest) * sizes.kv_heads * sizes.head_dim;
}

namespace attention_step_detail {

/// Positions whose keys, and values, lie side by side, channel after channel: those of one register of floats or two of
/// doubles. Scores are then computed for a register of positions at a time, whatever the width of a head, and a new
/// token is written within a few kilobytes.
inline constexpr Index block_positions = 16;

/// Calls body(first position, positions in memory, valid positions) for the blocks of the first `seen` of `kept`.
template <class Body>
void for_blocks(Index kept, Index seen, const Body& body) {
  for (Index first = 0; first < seen; first += block_positions)
    body(first, std::min(block_positions, kept - first), std::min(block_positions, seen - first));
}

}  // namespace attention_step_detail

/// `attention_forward` for the token at \p position, below \p longest, of each of \p batch sequences; q, out (batch,
/// heads * d), k, v (batch, kv_heads * d). \p state holds, per sequence, the turned keys and then the values of the
/// last tokens, each in blocks of 16 positions; position p is in place p mod kept.
template <class T>
void attention_step(Index batch, Index longest, Index position, const AttentionSizes& sizes, View<const T> q,
                    View<const T> k, View<const T> v, View<T> out, T* state, Workspace& workspace) {
  using namespace Eigen::internal;
  using attention_step_detail::block_positions;
  using attention_step_detail::for_blocks;
  const Index kept = attention_kept(sizes, longest);
  const Index seen = std::min(position + 1, kept);
  const Index d = sizes.head_dim;
  const Index width = sizes.heads * d;
  const Index kv_width = sizes.kv_heads * d;
  const int share = sizes.heads / sizes.kv_heads;
  RotarySizes turn{.heads = sizes.heads,
                   .head_dim = sizes.head_dim,
                   .rotary = sizes.rotary,
                   .rotary_base = sizes.rotary_base,
                   .interleaved = sizes.interleaved};

  Workspace::Frame frame(workspace);
  T* q_turned = frame.take<T>(width);
  T* k_turned = frame.take<T>(kv_width);
  T* weights = frame.take<T>(sizes.heads * seen);
  T* mixed = frame.take<T>(width * block_positions);

  // Exponentials are taken to the base 2; scores carry the factor.
  const T scale = static_cast<T>(sizes.scale * std::numbers::log2e);
  const Index place = position % kept;
  const Index block = place / block_positions * block_positions;
  const Index block_width = std::min(block_positions, kept - block);
  for (Index b = 0; b < batch; ++b) {
    T* keys = state + b * attention_step_state(sizes, longest);
    T* values = keys + kept * kv_width;
    turn.heads = sizes.heads;
    rotate_step<T>(1, position, turn, q.rows_from(b), {q_turned, width}, Turn::forward);
    turn.heads = sizes.kv_heads;
    rotate_step<T>(1, position, turn, k.rows_from(b), {k_turned, kv_width}, Turn::forward);
    for (Index c = 0; c < width; ++c) q_turned[c] *= scale;
    for (Index c = 0; c < kv_width; ++c) {
      const Index at = block * kv_width + c * block_width + place - block;
      keys[at] = k_turned[c];
      values[at] = v.row(b)[c];
    }

    for_blocks(kept, seen, [&](Index first, Index stride, Index count) {
      for (int h = 0; h < sizes.heads; ++h) {
        const T* query = q_turned + h * d;
        const T* key = keys + first * kv_width + h / share * d * stride;
        for_packets<T>(count, [&](auto at, Index s) {
          auto score = at.all(T(0));
          for (Index j = 0; j < d; ++j) score = pmadd(at.load(key + j * stride + s), at.all(query[j]), score);
          at.store(weights + h * seen + first + s, score);
        });
      }
    });

    for (int h = 0; h < sizes.heads; ++h) {
      T* weight = weights + h * seen;
      const T highest = largest_element(weight, seen);
      for_packets<T>(seen, [&](auto at, Index s) {
        at.store(weight + s, attention_detail::power_of_two(psub(at.load(weight + s), at.all(highest))));
      });
    }

    std::fill_n(mixed, width * block_positions, T(0));
    for_blocks(kept, seen, [&](Index first, Index stride, Index count) {
      for (int h = 0; h < sizes.heads; ++h) {
        const T* weight = weights + h * seen + first;
        const T* value = values + first * kv_width + h / share * d * stride;
        T* sum = mixed + h * d * block_positions;
        for_packets<T>(count, [&](auto at, Index s) {
          const auto w = at.load(weight + s);
          for (Index j = 0; j < d; ++j)
            at.store(sum + j * block_positions + s,
                     pmadd(w, at.load(value + j * stride + s), at.load(sum + j * block_positions + s)));
        });
      }
    });
    for (int h = 0; h < sizes.heads; ++h) {
      const T* weight = weights + h * seen;
      const T total = sum_packets<T>(seen, [&](auto at, Index s) { return at.load(weight + s); });
      for (Index j = h * d; j < (h + 1) * d; ++j) {
        const T* sum = mixed + j * block_positions;
        out.row(b)[j] = sum_packets<T>(block_positions, [&](auto at, Index s) { return at.load(sum + s); }) / total;
      }
    }
  }
}

}  // namespace mad::cpu
