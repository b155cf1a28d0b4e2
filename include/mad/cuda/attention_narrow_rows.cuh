// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Narrow heads, of 8 or 16 channels, on their way to the tensor cores: how a block is shared among heads, how rows are
/// loaded and turned by position, and how they become factors of products.
#pragma once

#include <mad/cuda/async_copy.cuh>
#include <mad/cuda/attention_exact.cuh>
#include <mad/cuda/numbers.cuh>
#include <mad/cuda/rotation.cuh>
#include <mad/cuda/tensor_core.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda::attention_narrow {

using attention_exact::log2_e;
using tensor::Left;
using tensor::Right;
using tensor::Sums;
using Operands = AttentionOperands<BFloat16>;

inline constexpr int warps = 8;
inline constexpr int threads = 32 * warps;

/// A row of a head is but 16 or 32 bytes and a short sequence but little work, so that a block owns up to four
/// neighbouring heads of a sequence: their rows are neighbours in memory. Each head has an equal share of the warps and
/// of the rows in shared memory.
struct Share {
  int shift;  ///< log2 of the heads of a block
  int rows;   ///< rows of a head in shared memory, a multiple of 32

  /// For `heads` heads in all and at most `capacity` rows in shared memory for all heads of a block.
  Share(int heads, int length, int capacity) : shift(2) {
    while (shift > 0 && (heads % (1 << shift) != 0 || capacity >> shift < length)) --shift;
    rows = std::min(capacity >> shift, (length + 31) / 32 * 32);
  }
  /// All rows in shared memory.
  __host__ __device__ int all_rows() const { return rows << shift; }

  __device__ int heads() const { return 1 << shift; }
  __device__ int head_warps() const { return warps >> shift; }
  /// The head of a warp, among the block's, and the warp's number among that head's.
  __device__ int head_of(int warp) const { return warp * heads() / warps; }
  __device__ int place_of(int warp) const { return warp & (head_warps() - 1); }
};

template <int Width>
inline constexpr int stride = tensor::Tile<1, Width>::stride;  ///< of rows in shared memory

/// A row of a head as it is stored, in whole registers: two numbers each, the first in the low half.
template <int Width>
struct Row {
  std::uint32_t pair[Width / 2];

  /// The row at `from`, or zeros.
  static __device__ Row at(const BFloat16* from, bool here = true) {
    Row row;
#pragma unroll
    for (int i = 0; i < Width / 2; i += 4) {
      uint4 four{0, 0, 0, 0};
      if (here) four = *reinterpret_cast<const uint4*>(from + 2 * i);
      row.pair[i] = four.x;
      row.pair[i + 1] = four.y;
      row.pair[i + 2] = four.z;
      row.pair[i + 3] = four.w;
    }
    return row;
  }
  __device__ void put(BFloat16* to) const {
#pragma unroll
    for (int i = 0; i < Width / 2; i += 4)
      *reinterpret_cast<uint4*>(to + 2 * i) = uint4{pair[i], pair[i + 1], pair[i + 2], pair[i + 3]};
  }
  /// The same, turned in halves and multiplied by a factor.
  __device__ void put_turned(BFloat16* to, const float (&turn)[Width], float factor) const {
    float x[Width];
#pragma unroll
    for (int c = 0; c < Width; ++c) x[c] = (*this)[c];
    Rotation::turn_halves(x, turn, 1.0f, factor);
#pragma unroll
    for (int c = 0; c < Width; c += 8) store(to + c, reinterpret_cast<const float(&)[8]>(x[c]));
  }
  __device__ float operator[](int c) const {
    return __uint_as_float(c % 2 == 0 ? pair[c / 2] << 16 : pair[c / 2] & 0xffff0000u);
  }
  __device__ float dot(const Row& other) const {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < Width; ++c) sum += (*this)[c] * other[c];
    return sum;
  }
};

/// Starts to copy a row to shared memory, or puts zeros there.
template <int Width>
__device__ void copy_row(BFloat16* to, const BFloat16* from, bool here) {
#pragma unroll
  for (int c = 0; c < Width; c += 8)
    if (here)
      copy_async<8>(to + c, from + c);
    else
      *reinterpret_cast<uint4*>(to + c) = uint4{0, 0, 0, 0};
}

/// The rows that a thread brings to shared memory: every few of one head of the block, the (thread mod heads)-th.
struct Part {
  int slot;  ///< of the head
  int first;
  int apart;

  __device__ explicit Part(const Share& share)
      : slot(static_cast<int>(threadIdx.x) & (share.heads() - 1)),
        first(static_cast<int>(threadIdx.x) >> share.shift),
        apart(threads >> share.shift) {}
};

/// Starts to copy two operands' rows [t0, end) of the block's heads, with zeros up to a multiple of 32 rows. `a` and
/// `b` are the first rows of the sequence, at the channels of the thread's head.
template <int Width>
__device__ void copy_rows(BFloat16* to_a, const BFloat16* a, std::size_t a_stride, BFloat16* to_b, const BFloat16* b,
                          std::size_t b_stride, int t0, int end, const Share& share) {
  const Part part(share);
  for (int r = part.first; r < (end - t0 + 31) / 32 * 32; r += part.apart) {
    const auto t = static_cast<std::size_t>(t0 + r);
    const int to = (part.slot * share.rows + r) * stride<Width>;
    copy_row<Width>(to_a + to, a + t * a_stride, t0 + r < end);
    copy_row<Width>(to_b + to, b + t * b_stride, t0 + r < end);
  }
  commit_copies();
}

/// Turns a row in shared memory by its position and multiplies it by a factor.
template <int Width>
__device__ void turn_row(BFloat16* row, int position, float factor, const Rotation& rotation) {
  if (rotation.turns_halves(Width)) {
    float turn[Width];
    rotation.angles(position, turn);
    Row<Width>::at(row).put_turned(row, turn, factor);
  } else {
    rotation.turn<Width>(row, position, 1.0f, factor);
  }
}

/// Turns the rows that this thread has copied by their positions, and multiplies them by a factor.
template <int Width>
__device__ void turn_rows(BFloat16* rows, int t0, int end, float factor, const Share& share, const Rotation& rotation) {
  constexpr int count = Width == 8 ? 2 : 1;  // rows at once, as the angles come from far away
  const Part part(share);
  BFloat16* head = rows + part.slot * share.rows * stride<Width>;
  for (int begin = part.first; t0 + begin < end; begin += count * part.apart) {
    if (rotation.turns_halves(Width)) {
      float turn[count][Width];
#pragma unroll
      for (int u = 0; u < count; ++u) rotation.angles(min(t0 + begin + u * part.apart, end - 1), turn[u]);
      wait_for_copies<0>();
#pragma unroll
      for (int u = 0; u < count; ++u) {
        const int r = begin + u * part.apart;
        if (t0 + r < end)
          Row<Width>::at(head + r * stride<Width>).put_turned(head + r * stride<Width>, turn[u], factor);
      }
    } else {
      wait_for_copies<0>();
      for (int r = begin; r < min(end - t0, begin + count * part.apart); r += part.apart)
        rotation.turn<Width>(head + r * stride<Width>, t0 + r, 1.0f, factor);
    }
  }
  wait_for_copies<0>();
}

/// 16 rows of a head as 8 x 8 matrices: columns / 8, rows / 8.
template <int Width>
struct Matrices {
  std::uint32_t part[Width / 8][2];

  /// The rows as left factor of a product over their channels.
  __device__ Left<Width> left() const {
    Left<Width> a;
#pragma unroll
    for (int i = 0; i < Width / 4; ++i) a.part[i] = part[i / 2][i % 2];
    return a;
  }
  /// Rows [8 half, 8 half + 8) as right factor of a product over their channels.
  __device__ Right<Width> right_of_rows(int half) const {
    Right<Width> b;
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) b.part[c] = part[c][half];
    return b;
  }
  /// Of transposed matrices: columns [8 c, 8 c + 8) as right factor of a product over the rows.
  __device__ Right<16> right(int c) const { return {{part[c][0], part[c][1]}}; }
};

/// Twice 16 rows of shared memory, from `rows` and from `rows + apart` on.
template <bool Transposed, int Width>
__device__ void load_twice(const BFloat16* rows, int apart, Matrices<Width> (&m)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const BFloat16* row = rows + lane % 16 * stride<Width>;
  if constexpr (Width == 8) {
    tensor::load_matrices<Transposed>(row + lane / 16 * apart, reinterpret_cast<std::uint32_t(&)[4]>(m));
  } else {
    tensor::load_matrices<Transposed>(row + lane / 16 * 8, reinterpret_cast<std::uint32_t(&)[4]>(m[0]));
    tensor::load_matrices<Transposed>(row + lane / 16 * 8 + apart, reinterpret_cast<std::uint32_t(&)[4]>(m[1]));
  }
}

/// True if query t sees key s for `distance` = t - s.
__device__ inline bool sees(int distance, int window) {
  return static_cast<unsigned>(distance) <= static_cast<unsigned>(window);
}

}  // namespace mad::cuda::attention_narrow
