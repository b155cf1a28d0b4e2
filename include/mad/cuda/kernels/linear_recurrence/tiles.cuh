// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear recurrences with narrow heads in bfloat16 on the tensor cores: a warp has the state of one head of one
/// sequence in registers and takes 16 tokens at a time. Which ones, and how a tile comes from memory and goes back.
///
/// Decays are split at the tile's start where the tile's are mild, otherwise as in a chunk
/// (chunks_decay.cuh), of which 16 tokens are a warp's. Nothing goes through shared memory. A lane
/// has four neighbouring columns of a head in the places where products want two pairs of them, eight columns apart:
/// the order of columns is the same for all factors, so that sums over columns and columns of results come out right.
#pragma once

#include <mad/cuda/kernels/linear_recurrence/chunks_gradient.cuh>

namespace mad::cuda::recurrence_tiles {

using recurrence_chunks::as_rights;
using recurrence_chunks::Columns;
using recurrence_chunks::Factors;
using recurrence_chunks::Lane;
using recurrence_chunks::multiply_add;
using recurrence_chunks::Rights;
using recurrence_chunks::rounded;
using recurrence_chunks::Square;
using recurrence_chunks::unpacked;
using recurrence_detail::Decay;
using recurrence_detail::Operands;
using recurrence_detail::Side;
using tensor::Left;

inline constexpr int tile = 16;  ///< tokens, and columns of a head at most
inline constexpr int warps = 4;  ///< of a block, each with a head of its own
inline constexpr int threads = 32 * warps;

/// True for the recurrences that this form computes. Decays that a head has for each token are left to sweeps.
template <class S, class T>
inline constexpr bool fits = sizeof(T) == sizeof(BFloat16) && S::group == 1 && S::key <= tile&& S::columns <= tile &&
                             (S::decay != Decay::head || !S::decay_per_token);

inline int tiles(Index length) { return static_cast<int>((length + tile - 1) / tile); }
/// One warp for each head of each sequence.
template <class S>
dim3 grid(const Shape& shape) {
  return dim3(static_cast<unsigned>((shape.batch * S::heads + warps - 1) / warps));
}

/// The head that a warp has.
struct Head {
  int index;  ///< of all sequences'
  int head, sequence;

  template <class S>
  __device__ static Head of_warp() {
    const int index = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32;
    return {index, index % S::heads, index / S::heads};
  }
};

/// Four neighbouring numbers of a row, of which there are only `left`; 0 for the others. C can be accessed at once.
template <int C>
__device__ inline uint2 load_four(const BFloat16* from, int left) {
  uint2 x{};
  if constexpr (C >= 4) {
    if (left > 0) x = *reinterpret_cast<const uint2*>(from);
  } else if constexpr (C == 2) {
    if (left > 0) x.x = *reinterpret_cast<const std::uint32_t*>(from);
    if (left > 2) x.y = *reinterpret_cast<const std::uint32_t*>(from + 2);
  } else {
    const auto number = [&](int i) -> std::uint32_t {
      return i < left ? reinterpret_cast<const std::uint16_t*>(from)[i] : std::uint16_t{0};
    };
    x = {number(0) | number(1) << 16, number(2) | number(3) << 16};
  }
  return x;
}
template <int C>
__device__ inline void store_four(BFloat16* to, int left, const float (&x)[4]) {
  if constexpr (C >= 4) {
    if (left > 0) store(to, x);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i += C)
#pragma unroll
      for (int j = 0; j < C; ++j)
        if (i + j < left) to[i + j] = __float2bfloat16_rn(x[i + j]);
  }
}

/// A head's rows of one side in memory, from the lane's first row and column on. Width is what the head has of columns.
template <int C, int Width>
struct Rows {
  const BFloat16* data;
  unsigned stride;
  int rows, columns;  ///< that there are from there on

  __device__ Rows(const BFloat16* side, unsigned side_stride, const Head& head, int length) : stride(side_stride) {
    const Lane lane;
    const std::size_t row = static_cast<std::size_t>(head.sequence) * length + lane.row;
    data = side + row * stride + head.head * Width + lane.column * 2;
    rows = length - lane.row;
    columns = Width - lane.column * 2;
  }
  /// Tokens [first, first + 16); 0 behind the end of the sequence.
  __device__ Left<16> load(int first) const {
    const BFloat16* from = data + first * stride;
    const uint2 upper = load_four<C>(from, first < rows ? columns : 0);
    const uint2 lower = load_four<C>(from + 8 * stride, first + 8 < rows ? columns : 0);
    return {{upper.x, lower.x, upper.y, lower.y}};
  }
};

/// Sums or numbers of a tile to rows in memory: `to` is the first row of the sequence.
template <int C, int Width>
__device__ inline void store_rows(const Square& x, float scale, BFloat16* to, std::size_t stride, int first,
                                  int length) {
  const Lane lane;
  const int column = lane.column * 2;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int t = first + lane.row + 8 * h;
    const float row[4] = {scale * x.value[2 * h], scale * x.value[2 * h + 1], scale * x.value[2 * h + 4],
                          scale * x.value[2 * h + 5]};
    if (t < length) store_four<C>(to + t * stride + column, Width - column, row);
  }
}

/// The lane's columns of what all tokens share of a head: Width numbers, 0 beyond.
template <int Width, class X>
__device__ inline Columns load_columns(const X* from) {
  Columns x;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = Lane().column * 2 + i;
    x.value[i] = c < Width ? to_float(from[c]) : 0.0f;
  }
  return x;
}
/// The same in every row.
__device__ inline Square in_rows(const Columns& x) {
  Square y;
#pragma unroll
  for (int i = 0; i < 4; ++i) y.value[Columns::entry(i)] = y.value[Columns::entry(i) + 2] = x.value[i];
  return y;
}

/// The right factor of products of rows with rows: the transpose of a.
__device__ inline Rights rights_of_rows(const Left<16>& a) {
  return {{{{a.part[0], a.part[2]}}, {{a.part[1], a.part[3]}}}};
}

/// Ones where a row's token sees the column's: products with them are sums over tokens.
struct Ones {
  Left<16> to_own;      ///< up to its own
  Left<16> before_own;  ///< before its own

  __device__ Ones() {
    const Lane lane;
    const auto pair = [](bool first, bool second) { return (first ? 0x3f80u : 0u) | (second ? 0x3f800000u : 0u); };
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const int after = lane.row_of(2 * p) - lane.column_of(2 * p);
      to_own.part[p] = pair(after >= 0, after >= 1);
      before_own.part[p] = pair(after >= 1, after >= 2);
    }
  }
};

/// Decays of a tile that are mild enough to be split at the tile's start: the factor of a query falls, that of a key
/// rises, and their product is the decay between them. With a bonus queries see the state from before their own token.
struct MildDecays {
  static constexpr float most = 60;  ///< powers of two that factors may be: sums of products stay far from any bound

  bool are_mild;
  Square query, key;
  Square all;  ///< from the tile's start to its end, in every row

  /// From sums of log decays from the tile's start to a key, and to what a query sees.
  __device__ MildDecays(const Square& to_key, const Square& to_query) {
    const Lane lane;
    float extreme = 0;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float x = 1.44269504f * to_key.value[e];
      extreme = fabsf(x) < most ? extreme : most;  // also where it is no number
      key.value[e] = tensor::power_of_two(-x);
      query.value[e] = tensor::power_of_two(1.44269504f * to_query.value[e]);
      all.value[e] = x;
    }
    are_mild = __all_sync(0xffffffffu, extreme < most);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int e = Columns::entry(i);
      const float last = __shfl_sync(0xffffffffu, all.value[e + 2], 28 + lane.column / 2);
      all.value[e] = all.value[e + 2] = tensor::power_of_two(last);
    }
  }
};

/// The log decays of a head, of which there may be none.
template <class S, class O>
struct Decays {
  static constexpr bool are_rows = S::decay == Decay::channel && S::decay_per_token;
  using Source = std::conditional_t<are_rows, Rows<S::key_chunk, S::key>, Columns>;
  Source from;
  Ones ones;

  __device__ Decays(const O& o, const Head& head, int length) : from(source(o, head, length)) {}
  /// As they are loaded: for the tokens of a tile if they are rows.
  __device__ Left<16> load(int first) const {
    if constexpr (are_rows)
      return from.load(first);
    else
      return {};
  }
  __device__ MildDecays mild(const Left<16>& loaded) const {
    Square to_key, before;
    if constexpr (are_rows) {
      const Rights rows = as_rights(loaded);
      multiply_add(to_key, ones.to_own, rows);
      if constexpr (S::bonus) multiply_add(before, ones.before_own, rows);
    } else {
      const Lane lane;
      const Square rows = in_rows(from);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        to_key.value[e] = static_cast<float>(lane.row_of(e) + 1) * rows.value[e];
        before.value[e] = static_cast<float>(lane.row_of(e)) * rows.value[e];
      }
    }
    return {to_key, S::bonus ? before : to_key};
  }
  /// For decays of any strength.
  __device__ Factors factors(const Left<16>& loaded) const {
    if constexpr (are_rows)
      return Factors(unpacked(loaded), S::bonus);
    else
      return Factors(in_rows(from), S::bonus);
  }

private:
  static __device__ Source source(const O& o, const Head& head, int length) {
    if constexpr (are_rows) {
      return {o.log_decay, o.decay_stride, head, length};
    } else if constexpr (S::decay == Decay::channel) {
      return load_columns<S::key>(o.log_decay + head.head * S::key);
    } else if constexpr (S::decay == Decay::head) {
      const float x = to_float(o.log_decay[head.head]);
      return {{x, x, x, x}};
    } else {
      return {};
    }
  }
};

/// What a warp reads of its head.
template <class S, class O>
struct Source {
  Rows<S::key_chunk, S::key> query, key;
  Rows<S::value_chunk, S::value> value;
  Decays<S, O> decay;

  __device__ Source(const O& o, const Head& head, int length)
      : query(side(o, Side::query), stride(o, Side::query), head, length),
        key(side(o, Side::key), stride(o, Side::key), head, length),
        value(side(o, Side::value), stride(o, Side::value), head, length),
        decay(o, head, length) {}

  /// Values with the normaliser's column, which is 1.
  __device__ Left<16> load_value(int first) const {
    Left<16> x = value.load(first);
    put_normaliser(x, 0x3f80, 0x3f80);
    return x;
  }
  /// Puts the normaliser's numbers of the lane's two rows, as they are stored, behind the columns of the values.
  static __device__ void put_normaliser(Left<16>& x, std::uint32_t upper, std::uint32_t lower) {
    constexpr int i = S::value % 4;
    if (!S::normaliser || Lane().column * 2 != S::value / 4 * 4) return;
    x.part[i / 2 * 2] |= upper << (i % 2 * 16);
    x.part[i / 2 * 2 + 1] |= lower << (i % 2 * 16);
  }
  static __device__ const BFloat16* side(const O& o, Side which) { return o.side[static_cast<int>(which)]; }
  static __device__ unsigned stride(const O& o, Side which) { return o.stride[static_cast<int>(which)]; }
};

/// Adds to a state (values, key channels) what a tile's tokens leave in it, the product of rows of both.
__device__ inline void add_to_state(Square& state, const Left<16>& values, const Left<16>& keys) {
  multiply_add(state, tensor::transposed(values), as_rights(keys));
}
__device__ inline void multiply(Square& x, const Square& by) {
#pragma unroll
  for (int e = 0; e < 8; ++e) x.value[e] *= by.value[e];
}
__device__ inline Left<16> weighed(const Left<16>& rows, const Square& by) {
  Square x = unpacked(rows);
  multiply(x, by);
  return rounded(x);
}

}  // namespace mad::cuda::recurrence_tiles
