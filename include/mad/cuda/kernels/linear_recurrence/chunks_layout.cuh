// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear recurrences with wide states in bfloat16 on the tensor cores, a chunk of 64 tokens at a time: which ones, how
/// a chunk is cut, and how its pieces come to shared memory.
///
/// The states at the ends of chunks are computed first, one chunk after the other
/// (chunks_states.cuh); then all chunks at once, each from the state at its start
/// (chunks_forward.cuh), in the backward pass also from the gradient of the state at its end
/// (chunks_gradient.cuh). A block has four warps of 16 tokens each, past which the channels of the
/// keys go in slabs of 16. The normaliser is one more column of the values, which is 1.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/linear_recurrence/layout.cuh>

namespace mad::cuda::recurrence_chunks {

using recurrence_detail::Decay;
using recurrence_detail::Side;
using tensor::Left;
using tensor::Right;
using tensor::Sums;
using tensor::Tile;

inline constexpr int chunk = 64;     ///< tokens
inline constexpr int slab = 16;      ///< channels of the keys
inline constexpr int own_rows = 16;  ///< tokens of a warp
inline constexpr int threads = 128;

/// True for the recurrences that this form computes.
template <class S, class T>
inline constexpr bool fits = sizeof(T) == sizeof(BFloat16) && !S::bonus && S::group == 1 &&
                             (S::decay == Decay::none || (S::decay == Decay::channel && S::decay_per_token)) &&
                             S::key <= 512 && S::value <= 128 && S::key * S::value >= 2048;

/// Sizes rounded up to what products take; what is added is 0.
template <class S>
struct Padded {
  static constexpr int slabs = (S::key + slab - 1) / slab;
  static constexpr int values = (S::columns + 15) / 16 * 16;
  static constexpr int slab_numbers = values * slab;          ///< of a state: (value, key channel)
  static constexpr int state_numbers = slabs * slab_numbers;  ///< (slab, value, key channel)
};

template <class S>
using Operands =
    recurrence_detail::Operands<BFloat16, std::conditional_t<S::decay == Decay::none, float, BFloat16>, float>;

/// Chunks of a sequence; states and their gradients are kept at the ends of all but the last.
__host__ __device__ inline int chunks(Index length) { return static_cast<int>((length + chunk - 1) / chunk); }

/// One block for each chunk.
template <class S>
dim3 grid(const Shape& shape) {
  return dim3(static_cast<unsigned>(chunks(shape.length)), S::heads, static_cast<unsigned>(shape.batch));
}

/// A head of one sequence: rows of tokens.
struct Rows {
  const BFloat16* data;
  std::size_t stride;
  int tokens;
};
template <Side Which, class S>
__device__ inline Rows rows_of(const Operands<S>& o, int sequence, int head, int length) {
  constexpr int side = static_cast<int>(Which);
  constexpr int width = Which == Side::query || Which == Side::key ? S::key : S::value;
  return {o.side[side] + static_cast<std::size_t>(sequence) * length * o.stride[side] + head * width, o.stride[side],
          length};
}
template <class S>
__device__ inline Rows decays_of(const Operands<S>& o, int sequence, int head, int length) {
  if constexpr (S::decay == Decay::none)
    return {};
  else
    return {o.log_decay + static_cast<std::size_t>(sequence) * length * o.decay_stride + head * S::key, o.decay_stride,
            length};
}

__device__ inline bool is_aligned(const BFloat16* rows, std::size_t stride) {
  return (reinterpret_cast<std::uintptr_t>(rows) | stride * sizeof(BFloat16)) % 16 == 0;
}

/// Eight neighbouring numbers that begin anywhere, by the words that they lie in.
__device__ inline uint4 eight_numbers(const BFloat16* from) {
  const auto address = reinterpret_cast<std::uintptr_t>(from);
  const auto* words = reinterpret_cast<const std::uint32_t*>(address / 4 * 4);
  const bool between = address % 4 != 0;
  std::uint32_t x[5];
#pragma unroll
  for (int i = 0; i < 5; ++i) x[i] = i < 4 || between ? words[i] : 0u;
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = between ? x[i] >> 16 | x[i + 1] << 16 : x[i];
  return {x[0], x[1], x[2], x[3]};
}

/// Rows [first, first + Count) of tokens, columns [column, column + Columns) of All; 0 beyond either end. Where rows
/// need only begin at multiples of C < 8 numbers they often begin at multiples of 8 all the same.
template <int C, int Columns, int All, int Count, int Width>
__device__ inline void load_rows(Tile<Count, Width>& to, const Rows& from, int first, int column) {
  constexpr int size = All % 8 == 0 ? 8 : C;  // numbers at a time
  constexpr int parts = (Columns + size - 1) / size;
  const bool at_once = size == 8 && (C == 8 || is_aligned(from.data, from.stride));
#pragma unroll
  for (int begin = 0; begin < Count * parts; begin += threads) {
    const int i = begin + static_cast<int>(threadIdx.x);
    if (begin + threads > Count * parts && i >= Count * parts) break;
    BFloat16* part = to.row(i / parts) + i % parts * size;
    const int t = first + i / parts;
    const int c = column + i % parts * size;
    const bool here = t < from.tokens && c < All;
    const BFloat16* source = from.data + (here ? t * from.stride + c : 0);
    if (at_once) {
      copy_or_clear_async(part, source, here);
    } else if constexpr (size == 8) {
      *reinterpret_cast<uint4*>(part) = here ? eight_numbers(source) : uint4{};
    } else {
      using Part = mad::cuda::Chunk<BFloat16, size>;
      *reinterpret_cast<Part*>(part) = here ? *reinterpret_cast<const Part*>(source) : Part{};
    }
  }
}

/// A warp's rows of a tile, from row r on, to `count` rows in memory.
template <int C, int Columns, int Count, int Width>
__device__ inline void store_rows(Tile<Count, Width>& tile, int r, BFloat16* to, std::size_t stride, int count) {
  const auto store_by = [&](auto part) {
    using Part = decltype(part);
    constexpr int size = sizeof(Part) / sizeof(BFloat16);
    constexpr int parts = Columns / size;
#pragma unroll 8
    for (int i = static_cast<int>(threadIdx.x) % 32; i < own_rows * parts; i += 32) {
      const int c = i % parts * size;
      if (i / parts < count)
        *reinterpret_cast<Part*>(to + i / parts * stride + c) =
            *reinterpret_cast<const Part*>(tile.row(r + i / parts) + c);
    }
  };
  constexpr int most = Columns % 8 == 0 ? 8 : C;
  if (most == C || is_aligned(to, stride))
    store_by(mad::cuda::Chunk<BFloat16, most>{});
  else
    store_by(mad::cuda::Chunk<BFloat16, C>{});
}

/// What stands behind the columns of a value, or of an output's gradient, up to the width of the tile: the normaliser's
/// column and zeros. Only `load_normaliser` writes there later.
template <class S, bool OfGradient, int Count>
__device__ inline void fill_last_columns(Tile<Count, Padded<S>::values>& to) {
  for (int r = static_cast<int>(threadIdx.x); r < Count; r += threads)
#pragma unroll
    for (int c = S::value; c < Padded<S>::values; ++c)
      to.row(r)[c] = __float2bfloat16_rn(S::normaliser && !OfGradient && c == S::value ? 1.0f : 0.0f);
}
/// The gradient of the normaliser; `gradients` are the columns of the head.
template <class S, int Count>
__device__ inline void load_normaliser(Tile<Count, Padded<S>::values>& to, const Rows& gradients, int head, int first) {
  if constexpr (S::normaliser) {
    const int r = static_cast<int>(threadIdx.x);
    if (r >= Count) return;
    const BFloat16* row = gradients.data + static_cast<std::size_t>(first + r) * gradients.stride;
    to.row(r)[S::value] =
        first + r < gradients.tokens ? row[S::heads * S::value + head - head * S::value] : __float2bfloat16_rn(0.0f);
  }
}

/// A slab of a state, or zeros.
template <int Values>
__device__ inline void load_state(Tile<Values, slab>& to, const BFloat16* from, bool here) {
#pragma unroll
  for (int begin = 0; begin < Values * 2; begin += threads) {
    const int i = begin + static_cast<int>(threadIdx.x);
    if (begin + threads > Values * 2 && i >= Values * 2) break;
    copy_or_clear_async(to.row(i / 2) + i % 2 * 8, from + (here ? i * 8 : 0), here);
  }
}

/// Two right factors that stand beside each other.
struct Rights {
  Right<16> half[2];
};
/// The transpose of rows [r, r + 16), columns [c, c + 16): products of rows with rows.
template <int Count, int Width>
__device__ inline Rights rights_of_rows(Tile<Count, Width>& tile, int r, int c) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t m[4];
  tensor::load_matrices<false>(tile.row(r + lane / 16 * 8 + lane % 8) + c + lane / 8 % 2 * 8, m);
  return {{{{m[0], m[1]}}, {{m[2], m[3]}}}};
}
/// Rows [r, r + 16), columns [c, c + 16): sums over rows.
template <int Count, int Width>
__device__ inline Rights rights(Tile<Count, Width>& tile, int r, int c) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t m[4];
  tensor::load_matrices<true>(tile.row(r + lane % 16) + c + lane / 16 * 8, m);
  return {{{{m[0], m[1]}}, {{m[2], m[3]}}}};
}
/// Their transpose as left factor.
template <int Count, int Width>
__device__ inline Left<16> transposed_left(Tile<Count, Width>& tile, int r, int c) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Left<16> a;
  tensor::load_matrices<true>(tile.row(r + lane / 16 * 8 + lane % 8) + c + lane / 8 % 2 * 8, a.part);
  return a;
}

/// 16 x 16 sums or numbers, in the order of a left factor: lane l has in its parts p = 0 to 3, each of two neighbouring
/// columns, row l / 4 + p mod 2 * 8 and columns p / 2 * 8 + 2 (l mod 4) and the next.
struct Square {
  float value[8]{};
};
__device__ inline void multiply_add(Square& c, const Left<16>& a, const Rights& b) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    Sums s{{c.value[4 * h], c.value[4 * h + 1], c.value[4 * h + 2], c.value[4 * h + 3]}};
    tensor::multiply_add(s, a, b.half[h]);
#pragma unroll
    for (int i = 0; i < 4; ++i) c.value[4 * h + i] = s.value[i];
  }
}
__device__ inline Left<16> rounded(const Square& x) {
  Left<16> a;
#pragma unroll
  for (int p = 0; p < 4; ++p) a.part[p] = tensor::pack(x.value[2 * p], x.value[2 * p + 1]);
  return a;
}
__device__ inline Square unpacked(const Left<16>& a) {
  Square x;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    x.value[2 * p] = __uint_as_float(a.part[p] << 16);
    x.value[2 * p + 1] = __uint_as_float(a.part[p] & 0xffff0000u);
  }
  return x;
}
/// The lane's place in a square.
struct Lane {
  int row, column;
  __device__ Lane() : row(static_cast<int>(threadIdx.x) % 32 / 4), column(static_cast<int>(threadIdx.x) % 4 * 2) {}
  __device__ int row_of(int i) const { return row + i / 2 % 2 * 8; }
  __device__ int column_of(int i) const { return column + i / 4 * 8 + i % 2; }
};

/// A left factor to rows [r, r + 16) of a tile of one slab.
template <int Count>
__device__ inline void store_left(Tile<Count, slab>& to, int r, const Left<16>& a) {
  const Lane lane;
#pragma unroll
  for (int p = 0; p < 4; ++p)
    *reinterpret_cast<std::uint32_t*>(to.row(r + lane.row_of(2 * p)) + lane.column_of(2 * p)) = a.part[p];
}

/// Two neighbouring numbers of a row of `width`, column `c` and the next, which may lie behind its end.
template <int C>
__device__ inline void store_two(BFloat16* row, int c, int width, float first, float second) {
  const float x[2] = {first, second};
  if constexpr (C >= 2) {
    if (c < width) store(row + c, x);
  } else {
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if (c + j < width) row[c + j] = __float2bfloat16_rn(x[j]);
  }
}

}  // namespace mad::cuda::recurrence_chunks
