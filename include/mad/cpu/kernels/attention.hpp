// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal softmax attention without an L x L matrix, forward and backward, on one thread.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/attention/layout.hpp>
#include <mad/cpu/kernels/rotary.hpp>
#include <mad/cpu/packets/lanes.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <limits>
#include <numbers>

namespace mad::cpu {

/// out = softmax(scale * q k^T, over the keys that each query sees) v, per sequence and head; a query sees the keys at
/// or before its own position, no further back than the window. q and k are turned by position first if asked.
/// q, out: (tokens, heads * d); k, v: (tokens, kv_heads * d); lse: (tokens, heads), the natural logarithm of the sum of
/// the exponentials of the scaled scores, which the backward pass needs. Both outputs are overwritten.
/// `HeadDim` is d, or 0 to take it from `sizes` at run time. Works on tiles of keys with a running maximum (Dao et al.
/// 2022, arXiv 2205.14135, algorithm 1).
template <int HeadDim, class T>
void attention_forward(const Shape& shape, const AttentionSizes& sizes, View<const T> q, View<const T> k,
                       View<const T> v, View<T> out, View<T> lse, Workspace& workspace) {
  using namespace attention_detail;
  using Block = Layout<HeadDim, T>;
  using Packet = typename Block::Packet;
  constexpr Index lanes = Block::lanes;
  const Block block(shape, sizes);
  const Index pitch = block.pitch();
  const RotaryTable<T>* table = rotary_table<T>(sizes.rotary, sizes.rotary_base, sizes.interleaved, shape.length);

  Workspace::Frame frame(workspace);
  T* q_rows = frame.take<T>(block.padded * pitch);
  T* k_rows = frame.take<T>(block.padded * pitch);
  T* v_rows = frame.take<T>(block.padded * pitch);
  T* out_rows = frame.take<T>(lanes * pitch);
  T* q_columns = frame.take<T>(lanes * pitch);
  T* out_columns = frame.take<T>(lanes * pitch);
  T* scores = frame.take<T>(Block::tile * lanes);

  // Exponentials are taken to the base 2; scores carry the factor.
  const T scale = static_cast<T>(sizes.scale * std::numbers::log2e);
  const int share = sizes.heads / sizes.kv_heads;
  for (Index b = 0; b < shape.batch; ++b) {
    const Index first_token = b * shape.length;
    for (int h = 0; h < sizes.heads; ++h) {
      if (h % share == 0) {
        const Index column = h / share * block.dim();
        block.pack(k.rows_from(first_token).columns_from(column), table, k_rows);
        block.pack(v.rows_from(first_token).columns_from(column), nullptr, v_rows);
      }
      block.pack(q.rows_from(first_token).columns_from(h * block.dim()), table, q_rows);
      for (Index t0 = 0; t0 < shape.length; t0 += lanes) {
        block.to_columns(q_rows + t0 * pitch, scale, q_columns);
        std::fill_n(out_columns, lanes * pitch, T(0));
        // Above what masked scores hold, so that their exponential is 0 even where a whole tile is masked.
        Packet highest = pset1<Packet>(std::numeric_limits<T>::lowest() / 2);
        Packet sum = pset1<Packet>(T(0));
        const Index end = block.end_key(t0);
        for (Index tile = block.first_key(t0); tile < end; tile += Block::tile) {
          const Index count = std::min(Block::tile, end - tile);
          const Packet before = highest;
          for (Index s = 0; s < count; s += Block::group) {
            Packet score[Block::group];
            block.products(q_columns, k_rows + (tile + s) * pitch, pset1<Packet>(T(0)), score);
            if (block.masks(t0, tile + s)) {
              MAD_UNROLL
              for (int u = 0; u < Block::group; ++u) score[u] = block.masked(score[u], t0, tile + s + u);
            }
            MAD_UNROLL
            for (int u = 0; u < Block::group; ++u) {
              highest = pmax(highest, score[u]);
              pstore(scores + (s + u) * lanes, score[u]);
            }
          }
          const Packet factor = power_of_two(psub(before, highest));
          sum = pmul(sum, factor);
          for (Index s = 0; s < count * lanes; s += lanes) {
            const Packet weight = power_of_two(psub(pload<Packet>(scores + s), highest));
            sum = padd(sum, weight);
            pstore(scores + s, weight);
          }
          block.accumulate(scores, v_rows + tile * pitch, count, factor, out_columns);
        }
        const Packet inverse = pdiv(pset1<Packet>(T(1)), sum);
        for (Index j = 0; j < pitch; ++j) {
          pstore(out_columns + j * lanes, pmul(inverse, pload<Packet>(out_columns + j * lanes)));
        }
        block.to_rows(out_columns, out_rows);
        pstore(scores, pmadd(highest, pset1<Packet>(std::numbers::ln2_v<T>), plog(sum)));
        const Index count = std::min(lanes, shape.length - t0);
        for (Index i = 0; i < count; ++i) {
          std::copy_n(out_rows + i * pitch, block.dim(), out.row(first_token + t0 + i) + h * block.dim());
          lse.row(first_token + t0 + i)[h] = scores[i];
        }
      }
    }
  }
}

/// Gradients of `attention_forward`, from its inputs, its outputs and the gradient of `out`; probabilities are computed
/// again. d_q: (tokens, heads * d); d_k, d_v: (tokens, kv_heads * d). All three are overwritten (Dao et al. 2022,
/// algorithm 4).
template <int HeadDim, class T>
void attention_backward(const Shape& shape, const AttentionSizes& sizes, View<const T> q, View<const T> k,
                        View<const T> v, View<const T> out, View<const T> lse, View<const T> d_out, View<T> d_q,
                        View<T> d_k, View<T> d_v, Workspace& workspace) {
  using namespace attention_detail;
  using Block = Layout<HeadDim, T>;
  using Packet = typename Block::Packet;
  constexpr Index lanes = Block::lanes;
  const Block block(shape, sizes);
  const Index pitch = block.pitch();
  const RotaryTable<T>* table = rotary_table<T>(sizes.rotary, sizes.rotary_base, sizes.interleaved, shape.length);

  Workspace::Frame frame(workspace);
  const Index all = block.padded * pitch;
  T* q_rows = frame.take<T>(all);
  T* k_rows = frame.take<T>(all);
  T* v_rows = frame.take<T>(all);
  T* d_out_rows = frame.take<T>(all);
  T* d_k_rows = frame.take<T>(all);
  T* d_v_rows = frame.take<T>(all);
  T* d_q_rows = frame.take<T>(lanes * pitch);
  T* q_columns = frame.take<T>(lanes * pitch);
  T* d_out_columns = frame.take<T>(lanes * pitch);
  T* d_q_columns = frame.take<T>(lanes * pitch);
  T* weights = frame.take<T>(Block::tile * lanes);
  T* d_scores = frame.take<T>(Block::tile * lanes);
  T* minus_lse = frame.take<T>(block.padded);
  T* minus_delta = frame.take<T>(block.padded);

  const T log2e = std::numbers::log2e_v<T>;
  const T scale = static_cast<T>(sizes.scale);
  const int share = sizes.heads / sizes.kv_heads;
  for (Index b = 0; b < shape.batch; ++b) {
    const Index first_token = b * shape.length;
    for (int h = 0; h < sizes.heads; ++h) {
      const Index column = h * block.dim(), kv_column = h / share * block.dim();
      if (h % share == 0) {
        block.pack(k.rows_from(first_token).columns_from(kv_column), table, k_rows);
        block.pack(v.rows_from(first_token).columns_from(kv_column), nullptr, v_rows);
        std::fill_n(d_k_rows, all, T(0));
        std::fill_n(d_v_rows, all, T(0));
      }
      block.pack(q.rows_from(first_token).columns_from(column), table, q_rows);
      block.pack(d_out.rows_from(first_token).columns_from(column), nullptr, d_out_rows);
      std::fill_n(minus_lse, block.padded, T(0));
      std::fill_n(minus_delta, block.padded, T(0));
      for (Index t = 0; t < shape.length; ++t) {
        // The sum over keys of probability times its gradient is the inner product of out and d_out.
        const T* o = out.row(first_token + t) + column;
        const T* d_o = d_out_rows + t * pitch;
        minus_delta[t] =
            -sum_packets<T>(block.dim(), [&](auto at, Index j) { return pmul(at.load(o + j), at.load(d_o + j)); });
        minus_lse[t] = -log2e * lse.row(first_token + t)[h];
      }
      for (Index t0 = 0; t0 < shape.length; t0 += lanes) {
        block.to_columns(q_rows + t0 * pitch, static_cast<T>(sizes.scale * std::numbers::log2e), q_columns);
        block.to_columns(d_out_rows + t0 * pitch, T(1), d_out_columns);
        std::fill_n(d_q_columns, lanes * pitch, T(0));
        const Packet start = pload<Packet>(minus_lse + t0), d_start = pload<Packet>(minus_delta + t0);
        const Index end = block.end_key(t0);
        for (Index tile = block.first_key(t0); tile < end; tile += Block::tile) {
          const Index count = std::min(Block::tile, end - tile);
          for (Index s = 0; s < count; s += Block::group) {
            Packet score[Block::group], d_weight[Block::group];
            block.products(q_columns, k_rows + (tile + s) * pitch, start, score);
            if (block.masks(t0, tile + s)) {
              MAD_UNROLL
              for (int u = 0; u < Block::group; ++u) score[u] = block.masked(score[u], t0, tile + s + u);
            }
            MAD_UNROLL
            for (int u = 0; u < Block::group; ++u) {
              score[u] = power_of_two(score[u]);
              pstore(weights + (s + u) * lanes, score[u]);
            }
            block.products(d_out_columns, v_rows + (tile + s) * pitch, d_start, d_weight);
            MAD_UNROLL
            for (int u = 0; u < Block::group; ++u) pstore(d_scores + (s + u) * lanes, pmul(score[u], d_weight[u]));
          }
          block.accumulate(d_scores, k_rows + tile * pitch, count, pset1<Packet>(T(1)), d_q_columns);
          block.accumulate_keys(weights, d_scores, d_out_rows + t0 * pitch, q_rows + t0 * pitch, count,
                                d_v_rows + tile * pitch, d_k_rows + tile * pitch);
        }
        block.to_rows(d_q_columns, d_q_rows);
        block.unpack(d_q_rows, scale, table, d_q.rows_from(first_token).columns_from(column), t0,
                     std::min(lanes, shape.length - t0));
      }
      if ((h + 1) % share == 0) {
        block.unpack(d_k_rows, scale, table, d_k.rows_from(first_token).columns_from(kv_column), 0, shape.length);
        block.unpack(d_v_rows, T(1), nullptr, d_v.rows_from(first_token).columns_from(kv_column), 0, shape.length);
      }
    }
  }
}

}  // namespace mad::cpu
