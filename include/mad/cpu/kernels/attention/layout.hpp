// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sizes of an attention, and the packed forms of one head on which the attention kernels work.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/kernels/rotary.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/lanes.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <type_traits>

namespace mad::cpu {

/// Sizes and options of one attention, as the kernels see them.
struct AttentionSizes {
  int heads = 1;
  int kv_heads = 1;          ///< divides heads; query head h reads key and value head h / (heads / kv_heads)
  int head_dim = 1;          ///< d
  int window = -1;           ///< keys further back than this are masked (window + 1 keys are seen); -1: none are
  double scale = 1.0;        ///< factor of the scores, usually 1/sqrt(d)
  int rotary = 0;            ///< channels of each query and key head that turn with position: even, at most d; 0: none
  double rotary_base = 1e4;  ///< pair j turns by position * rotary_base^(-2j/rotary)
  bool interleaved = false;  ///< rotation of pairs (2j, 2j+1) instead of (j, j + rotary/2)
};

namespace attention_detail {

using namespace Eigen::internal;

// The smallest packet that holds `Width` numbers; the widest one where none does or the width is not known (0).
template <class Packet, int Width>
constexpr auto row_packet() {
  using Half = typename unpacket_traits<Packet>::half;
  if constexpr (Width > 0 && Width <= packet_size<Half>() && packet_size<Half>() < packet_size<Packet>()) {
    return row_packet<Half, Width>();
  } else {
    return std::type_identity<Packet>{};
  }
}

// 2^x for x at most 127; 0 below the subnormal range, where results may be 0 already; NaN for NaN.
template <class Packet>
MAD_ALWAYS_INLINE inline Packet power_of_two(const Packet& power) {
  using T = typename unpacket_traits<Packet>::type;
  if constexpr (packet_size<Packet>() == 1) {
    return std::exp2(power);
  } else if constexpr (std::is_same_v<T, float>) {
    // Adding 1.5 * 2^23 + 127 rounds to an integer n and leaves n + 127, the exponent bits of 2^n, in the low bits.
    const Packet shift = pset1<Packet>(12582912.0f + 127.0f);
    const Packet x = pmax(power, pset1<Packet>(-127.0f));
    const Packet shifted = padd(x, shift);
    const Packet r = psub(x, psub(shifted, shift));
    // The polynomial of degree 6 with the least relative error on [-1/2, 1/2]: 1.9e-9.
    Packet y = pset1<Packet>(0.00015345820547504841f);
    y = pmadd(y, r, pset1<Packet>(0.001339993125776851f));
    y = pmadd(y, r, pset1<Packet>(0.00961848892349624f));
    y = pmadd(y, r, pset1<Packet>(0.05550328776878003f));
    y = pmadd(y, r, pset1<Packet>(0.24022646890962854f));
    y = pmadd(y, r, pset1<Packet>(0.6931472057373325f));
    y = pmadd(y, r, pset1<Packet>(1.0f));
    using Bits = typename unpacket_traits<Packet>::integer_packet;
    return pmul(y, preinterpret<Packet>(plogical_shift_left<23>(preinterpret<Bits>(shifted))));
  } else {
    const Packet y = pexp(pmul(power, pset1<Packet>(std::numbers::ln2_v<T>)));
    return pselect(pcmp_lt(power, pset1<Packet>(T(-1021))), pzero(y), y);
  }
}

// Sizes of one (sequence, head) and the packed forms in which it is worked on.
//
// Rows: one token after another, `pitch` numbers apart, zero beyond the head and beyond the input.
// Columns: a block of `lanes` queries with one packet per channel, lane i holding query i of the block. Scores of
// one key against the block are then one packet, and maximum and sum over keys need no step across lanes.
template <int HeadDim, class T>
struct Layout {
  using Packet = typename packet_traits<T>::type;
  using RowPacket = typename decltype(row_packet<Packet, HeadDim>())::type;
  static constexpr Index lanes = packet_size<Packet>();
  static constexpr Index row_lanes = packet_size<RowPacket>();
  static constexpr Index group = 8;           // keys whose scores are in registers together
  static constexpr Index tile = 64;           // keys whose scores are in cache together
  static constexpr Index backward_group = 4;  // keys whose two gradients are in registers together

  Layout(const Shape& shape, const AttentionSizes& s)
      : sizes(s), length(shape.length), padded(round_up(shape.length, std::max(lanes, group))), head(s.head_dim) {}

  static constexpr Index round_up(Index n, Index step) { return (n + step - 1) / step * step; }
  constexpr Index dim() const { return HeadDim > 0 ? HeadDim : head; }
  constexpr Index pitch() const { return round_up(dim(), row_lanes); }

  // First key that some query of the block at t0 sees, down to a multiple of the group.
  Index first_key(Index t0) const {
    return sizes.window < 0 ? 0 : std::max<Index>(0, t0 - sizes.window) / group * group;
  }
  Index end_key(Index t0) const { return round_up(t0 + lanes, group); }

  // Whether some query of the block at t0 does not see some key of the group at s.
  bool masks(Index t0, Index s) const {
    return s + group - 1 > t0 || (sizes.window >= 0 && s + sizes.window < t0 + lanes - 1);
  }
  // The lowest number in the lanes whose query does not see key s, whatever stood there.
  MAD_ALWAYS_INLINE inline Packet masked(const Packet& score, Index t0, Index s) const {
    // Lane i sees the key if i >= s - t0, and if i <= s - t0 + window. A load that slides along the steps is infinite
    // from, or up to, any lane; the minimum, in this order, turns a score that is not a number into that bound.
    Packet result = pmin(ploadu<Packet>(rise.data() + lanes - std::clamp<Index>(s - t0, 0, lanes)), score);
    if (sizes.window >= 0) {
      const Index last = std::clamp<Index>(s - t0 + sizes.window, -1, lanes - 1);
      result = pmin(ploadu<Packet>(fall.data() + lanes - 1 - last), result);
    }
    return result;
  }

  // One head of one sequence into rows, turned by position if there is a table.
  void pack(View<const T> head_of, const RotaryTable<T>* table, T* rows) const {
    for (Index t = 0; t < length; ++t) std::copy_n(head_of.row(t), dim(), rows + t * pitch());
    if (table) table->turn(0, length, head_of, {rows, pitch()}, Turn::forward);
    if (dim() < pitch()) {
      for (Index t = 0; t < length; ++t) std::fill_n(rows + t * pitch() + dim(), pitch() - dim(), T(0));
    }
    std::fill_n(rows + length * pitch(), (padded - length) * pitch(), T(0));
  }

  // The gradient of a packed head at positions first to first + count - 1, times `factor`, turned back.
  void unpack(T* rows, T factor, const RotaryTable<T>* table, View<T> head_of, Index first, Index count) const {
    const RowPacket f = pset1<RowPacket>(factor);
    for (Index i = 0; i < count * pitch(); i += row_lanes) pstore(rows + i, pmul(f, pload<RowPacket>(rows + i)));
    if (table) table->turn(first, count, {rows, pitch()}, {rows, pitch()}, Turn::backward);
    for (Index t = 0; t < count; ++t) std::copy_n(rows + t * pitch(), dim(), head_of.row(first + t));
  }

  // A block of rows to columns, times `factor`.
  void to_columns(const T* rows, T factor, T* columns) const {
    const RowPacket f = pset1<RowPacket>(factor);
    for (Index p = 0; p < pitch(); p += row_lanes) {
      for (Index i = 0; i < lanes; i += row_lanes) {
        PacketBlock<RowPacket, row_lanes> block;
        MAD_UNROLL
        for (int r = 0; r < row_lanes; ++r) block.packet[r] = pload<RowPacket>(rows + (i + r) * pitch() + p);
        ptranspose(block);
        MAD_UNROLL
        for (int r = 0; r < row_lanes; ++r) pstore(columns + (p + r) * lanes + i, pmul(f, block.packet[r]));
      }
    }
  }

  // A block of columns to rows.
  void to_rows(const T* columns, T* rows) const {
    for (Index p = 0; p < pitch(); p += row_lanes) {
      for (Index i = 0; i < lanes; i += row_lanes) {
        PacketBlock<RowPacket, row_lanes> block;
        MAD_UNROLL
        for (int r = 0; r < row_lanes; ++r) block.packet[r] = pload<RowPacket>(columns + (p + r) * lanes + i);
        ptranspose(block);
        MAD_UNROLL
        for (int r = 0; r < row_lanes; ++r) pstore(rows + (i + r) * pitch() + p, block.packet[r]);
      }
    }
  }

  // start + (inner products of a block of columns with each of the `group` rows), into `result`.
  MAD_ALWAYS_INLINE inline void products(const T* columns, const T* rows, const Packet& start, Packet* result) const {
    Packet sum[group];
    MAD_UNROLL
    for (int u = 0; u < group; ++u) sum[u] = start;
    for (Index j = 0; j < dim(); ++j) {
      const Packet column = pload<Packet>(columns + j * lanes);
      MAD_UNROLL
      for (int u = 0; u < group; ++u) sum[u] = pmadd(column, pset1<Packet>(rows[u * pitch() + j]), sum[u]);
    }
    MAD_UNROLL
    for (int u = 0; u < group; ++u) result[u] = sum[u];
  }

  // columns = columns * factor + sum over `count` keys of weights[key] * rows[key], for channels j to j + N - 1.
  template <int N>
  MAD_ALWAYS_INLINE inline void accumulate(const T* weights, const T* rows, Index count, const Packet& factor, Index j,
                                           T* columns) const {
    Packet sum[N];
    MAD_UNROLL
    for (int u = 0; u < N; ++u) sum[u] = pmul(factor, pload<Packet>(columns + (j + u) * lanes));
    for (Index s = 0; s < count; ++s) {
      const Packet weight = pload<Packet>(weights + s * lanes);
      MAD_UNROLL
      for (int u = 0; u < N; ++u) sum[u] = pmadd(weight, pset1<Packet>(rows[s * pitch() + j + u]), sum[u]);
    }
    MAD_UNROLL
    for (int u = 0; u < N; ++u) pstore(columns + (j + u) * lanes, sum[u]);
  }

  void accumulate(const T* weights, const T* rows, Index count, const Packet& factor, T* columns) const {
    Index j = 0;
    for (; j + 8 <= dim(); j += 8) accumulate<8>(weights, rows, count, factor, j, columns);
    if (dim() % 8 >= 4) accumulate<4>(weights, rows, count, factor, j, columns), j += 4;
    if (dim() % 4 >= 2) accumulate<2>(weights, rows, count, factor, j, columns), j += 2;
    if (dim() % 2 >= 1) accumulate<1>(weights, rows, count, factor, j, columns);
  }

  // Adds weights^T d_out to d_v and d_scores^T q to d_k, for `count` keys and one block of queries, all in rows.
  void accumulate_keys(const T* weights, const T* d_scores, const T* d_out, const T* q, Index count, T* d_v,
                       T* d_k) const {
    constexpr int keys = backward_group;
    for (Index s = 0; s < count; s += keys) {
      for (Index p = 0; p < pitch(); p += row_lanes) {
        RowPacket v_sum[keys], k_sum[keys];
        MAD_UNROLL
        for (int u = 0; u < keys; ++u) {
          v_sum[u] = pload<RowPacket>(d_v + (s + u) * pitch() + p);
          k_sum[u] = pload<RowPacket>(d_k + (s + u) * pitch() + p);
        }
        for (Index i = 0; i < lanes; ++i) {
          const RowPacket d_out_row = pload<RowPacket>(d_out + i * pitch() + p);
          const RowPacket q_row = pload<RowPacket>(q + i * pitch() + p);
          MAD_UNROLL
          for (int u = 0; u < keys; ++u) {
            v_sum[u] = pmadd(d_out_row, pset1<RowPacket>(weights[(s + u) * lanes + i]), v_sum[u]);
            k_sum[u] = pmadd(q_row, pset1<RowPacket>(d_scores[(s + u) * lanes + i]), k_sum[u]);
          }
        }
        MAD_UNROLL
        for (int u = 0; u < keys; ++u) {
          pstore(d_v + (s + u) * pitch() + p, v_sum[u]);
          pstore(d_k + (s + u) * pitch() + p, k_sum[u]);
        }
      }
    }
  }

  static constexpr std::array<T, 2 * lanes> steps(bool rising) {
    std::array<T, 2 * lanes> result{};
    for (Index i = 0; i < 2 * lanes; ++i) {
      result[static_cast<std::size_t>(i)] =
          (i >= lanes) == rising ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
    }
    return result;
  }
  static constexpr std::array<T, 2 * lanes> rise = steps(true);
  static constexpr std::array<T, 2 * lanes> fall = steps(false);

  AttentionSizes sizes;
  Index length;
  Index padded;
  Index head;
};

}  // namespace attention_detail

}  // namespace mad::cpu
