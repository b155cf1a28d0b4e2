// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention under a Toeplitz mask as a sum over all visible pairs of positions, forward and backward, on one thread.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/attention/layout.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <algorithm>

namespace mad::cpu {

/// Sizes of an attention under a Toeplitz mask: `heads` filters, each for `head_width` neighbouring channels.
struct ToeplitzAttentionSizes {
  Index heads = 1;
  Index head_width = 1;
};

/// What such an attention reads: q, k, v (tokens, heads * head_width), filter (positions, heads), skip (heads).
template <class T>
struct ToeplitzAttentionOperands {
  View<const T> q, k, v, filter;
  const T* skip;
};

/// Where its gradients go: q, k, v are overwritten, filter and skip are added to.
template <class T>
struct ToeplitzAttentionGradients {
  View<T> q, k, v, filter;
  T* skip;
};

namespace toeplitz_detail {

using namespace Eigen::internal;

/// One head's filter over all distances that a block of queries and a group of keys can have. Distances below 0 have
/// the factor 0: the filter is the causal mask as well.
template <int HeadWidth, class T>
class Filter {
public:
  using Block = attention_detail::Layout<HeadWidth, T>;
  using Packet = typename Block::Packet;
  static constexpr Index lanes = Block::lanes;

  explicit Filter(const Block& block) : block_(block) {}

  Index size() const { return before + block_.padded + behind; }

  /// Column `head` of the filter, `skip` added at distance 0.
  void gather(View<const T> filter, Index head, T skip, T* taps) const {
    std::fill_n(taps, before, T(0));
    for (Index j = 0; j < block_.length; ++j) taps[before + j] = filter.row(j)[head];
    taps[before] += skip;
    std::fill_n(taps + before + block_.length, size() - before - block_.length, T(0));
  }

  /// Adds the gradients of the taps to column `head` of the filter's, and the first of them to the skip's.
  void scatter(const T* d_taps, Index head, View<T> d_filter, T* d_skip) const {
    for (Index j = 0; j < block_.length; ++j) d_filter.row(j)[head] += d_taps[before + j];
    d_skip[head] += d_taps[before];
  }

  /// The factors of the block of queries at t0 with key s, one per lane.
  static MAD_ALWAYS_INLINE inline Packet factors(const T* taps, Index t0, Index s) {
    return ploadu<Packet>(taps + before + t0 - s);
  }

  // Gradients of the taps are sums along diagonals of a tile (keys by queries). Rows of the tile lie apart, with zeros
  // around them, so that a diagonal is a column of loads that slide by one.
  static constexpr Index group = Block::group;
  static constexpr Index diagonal_packets = (lanes + group - 1 + lanes - 1) / lanes;
  static constexpr Index margin = std::max(lanes, group);
  static constexpr Index row_pitch = margin + diagonal_packets * lanes;
  static constexpr Index tile_size = Block::tile * row_pitch;

  static MAD_ALWAYS_INLINE inline T* tile_row(T* tile, Index key) { return tile + key * row_pitch + margin; }

  /// Adds the sums of the tile of queries from t0 and `count` keys from s (a multiple of `group`) to `d_taps`.
  static void add_diagonals(const T* tile, Index t0, Index s, Index count, T* d_taps) {
    for (Index key = 0; key < count; key += group) {
      T* sums = d_taps + before + t0 - (s + key + group - 1);
      for (Index i = 0; i < diagonal_packets * lanes; i += lanes) {
        Packet sum = ploadu<Packet>(sums + i);
        MAD_UNROLL
        for (int u = 0; u < static_cast<int>(group); ++u)
          sum = padd(sum, ploadu<Packet>(tile + (key + u) * row_pitch + margin + i - (group - 1 - u)));
        pstoreu(sums + i, sum);
      }
    }
  }

private:
  static constexpr Index before = std::max(lanes, group);
  static constexpr Index behind = diagonal_packets * lanes;
  const Block& block_;
};

}  // namespace toeplitz_detail

/// y_t = sum_{s<=t} h[t-s] (q_t.k_s) v_s + skip (q_t.k_t) v_t per sequence and head; y is overwritten. `HeadWidth` is
/// the width of a head, or 0 to take it from `sizes` at run time. Works on tiles of keys, a register of queries wide.
template <int HeadWidth, class T>
void toeplitz_attention_direct(const Shape& shape, const ToeplitzAttentionSizes& sizes,
                               const ToeplitzAttentionOperands<T>& in, View<T> y, Workspace& workspace) {
  using namespace Eigen::internal;
  using Block = attention_detail::Layout<HeadWidth, T>;
  using Filter = toeplitz_detail::Filter<HeadWidth, T>;
  using Packet = typename Block::Packet;
  constexpr Index lanes = Block::lanes;
  const Block block(shape, {.head_dim = static_cast<int>(sizes.head_width)});
  const Filter filter(block);
  const Index pitch = block.pitch();

  Workspace::Frame frame(workspace);
  T* q_rows = frame.take<T>(block.padded * pitch);
  T* k_rows = frame.take<T>(block.padded * pitch);
  T* v_rows = frame.take<T>(block.padded * pitch);
  T* taps = frame.take<T>(filter.size());
  T* y_rows = frame.take<T>(lanes * pitch);
  T* q_columns = frame.take<T>(lanes * pitch);
  T* y_columns = frame.take<T>(lanes * pitch);
  T* weights = frame.take<T>(Block::tile * lanes);

  for (Index h = 0; h < sizes.heads; ++h) {
    filter.gather(in.filter, h, in.skip[h], taps);
    const Index column = h * block.dim();
    for (Index b = 0; b < shape.batch; ++b) {
      const Index first = b * shape.length;
      block.pack(in.q.rows_from(first).columns_from(column), nullptr, q_rows);
      block.pack(in.k.rows_from(first).columns_from(column), nullptr, k_rows);
      block.pack(in.v.rows_from(first).columns_from(column), nullptr, v_rows);
      for (Index t0 = 0; t0 < shape.length; t0 += lanes) {
        block.to_columns(q_rows + t0 * pitch, T(1), q_columns);
        std::fill_n(y_columns, lanes * pitch, T(0));
        const Index end = block.end_key(t0);
        for (Index tile = 0; tile < end; tile += Block::tile) {
          const Index count = std::min(Block::tile, end - tile);
          for (Index s = 0; s < count; s += Block::group) {
            Packet score[Block::group];
            block.products(q_columns, k_rows + (tile + s) * pitch, pset1<Packet>(T(0)), score);
            MAD_UNROLL
            for (int u = 0; u < Block::group; ++u)
              pstore(weights + (s + u) * lanes, pmul(score[u], Filter::factors(taps, t0, tile + s + u)));
          }
          block.accumulate(weights, v_rows + tile * pitch, count, pset1<Packet>(T(1)), y_columns);
        }
        block.to_rows(y_columns, y_rows);
        block.unpack(y_rows, T(1), nullptr, y.rows_from(first).columns_from(column), t0,
                     std::min(lanes, shape.length - t0));
      }
    }
  }
}

/// Gradients of `toeplitz_attention_direct`; scores are computed again.
template <int HeadWidth, class T>
void toeplitz_attention_direct_backward(const Shape& shape, const ToeplitzAttentionSizes& sizes,
                                        const ToeplitzAttentionOperands<T>& in, View<const T> d_y,
                                        const ToeplitzAttentionGradients<T>& out, Workspace& workspace) {
  using namespace Eigen::internal;
  using Block = attention_detail::Layout<HeadWidth, T>;
  using Filter = toeplitz_detail::Filter<HeadWidth, T>;
  using Packet = typename Block::Packet;
  constexpr Index lanes = Block::lanes;
  const Block block(shape, {.head_dim = static_cast<int>(sizes.head_width)});
  const Filter filter(block);
  const Index pitch = block.pitch();

  Workspace::Frame frame(workspace);
  const Index all = block.padded * pitch;
  T* q_rows = frame.take<T>(all);
  T* k_rows = frame.take<T>(all);
  T* v_rows = frame.take<T>(all);
  T* d_y_rows = frame.take<T>(all);
  T* d_k_rows = frame.take<T>(all);
  T* d_v_rows = frame.take<T>(all);
  T* d_q_rows = frame.take<T>(lanes * pitch);
  T* q_columns = frame.take<T>(lanes * pitch);
  T* d_y_columns = frame.take<T>(lanes * pitch);
  T* d_q_columns = frame.take<T>(lanes * pitch);
  T* weights = frame.take<T>(Block::tile * lanes);
  T* d_scores = frame.take<T>(Block::tile * lanes);
  T* taps = frame.take<T>(filter.size());
  T* d_taps = frame.take<T>(filter.size());
  T* d_factors = frame.take<T>(Filter::tile_size);
  std::fill_n(d_factors, Filter::tile_size, T(0));

  for (Index h = 0; h < sizes.heads; ++h) {
    filter.gather(in.filter, h, in.skip[h], taps);
    std::fill_n(d_taps, filter.size(), T(0));
    const Index column = h * block.dim();
    for (Index b = 0; b < shape.batch; ++b) {
      const Index first = b * shape.length;
      block.pack(in.q.rows_from(first).columns_from(column), nullptr, q_rows);
      block.pack(in.k.rows_from(first).columns_from(column), nullptr, k_rows);
      block.pack(in.v.rows_from(first).columns_from(column), nullptr, v_rows);
      block.pack(d_y.rows_from(first).columns_from(column), nullptr, d_y_rows);
      std::fill_n(d_k_rows, all, T(0));
      std::fill_n(d_v_rows, all, T(0));
      for (Index t0 = 0; t0 < shape.length; t0 += lanes) {
        block.to_columns(q_rows + t0 * pitch, T(1), q_columns);
        block.to_columns(d_y_rows + t0 * pitch, T(1), d_y_columns);
        std::fill_n(d_q_columns, lanes * pitch, T(0));
        const Index end = block.end_key(t0);
        for (Index tile = 0; tile < end; tile += Block::tile) {
          const Index count = std::min(Block::tile, end - tile);
          for (Index s = 0; s < count; s += Block::group) {
            Packet score[Block::group], d_weight[Block::group];
            block.products(q_columns, k_rows + (tile + s) * pitch, pset1<Packet>(T(0)), score);
            block.products(d_y_columns, v_rows + (tile + s) * pitch, pset1<Packet>(T(0)), d_weight);
            MAD_UNROLL
            for (int u = 0; u < Block::group; ++u) {
              const Packet factor = Filter::factors(taps, t0, tile + s + u);
              pstore(weights + (s + u) * lanes, pmul(score[u], factor));
              pstore(d_scores + (s + u) * lanes, pmul(d_weight[u], factor));
              pstoreu(Filter::tile_row(d_factors, s + u), pmul(score[u], d_weight[u]));
            }
          }
          block.accumulate(d_scores, k_rows + tile * pitch, count, pset1<Packet>(T(1)), d_q_columns);
          block.accumulate_keys(weights, d_scores, d_y_rows + t0 * pitch, q_rows + t0 * pitch, count,
                                d_v_rows + tile * pitch, d_k_rows + tile * pitch);
          Filter::add_diagonals(d_factors, t0, tile, count, d_taps);
        }
        block.to_rows(d_q_columns, d_q_rows);
        block.unpack(d_q_rows, T(1), nullptr, out.q.rows_from(first).columns_from(column), t0,
                     std::min(lanes, shape.length - t0));
      }
      block.unpack(d_k_rows, T(1), nullptr, out.k.rows_from(first).columns_from(column), 0, shape.length);
      block.unpack(d_v_rows, T(1), nullptr, out.v.rows_from(first).columns_from(column), 0, shape.length);
    }
    filter.scatter(d_taps, h, out.filter, out.skip);
  }
}

}  // namespace mad::cpu
