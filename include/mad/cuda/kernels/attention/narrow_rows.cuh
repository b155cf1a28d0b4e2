// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Narrow heads, of 8 or 16 channels, on their way to the tensor cores: how a block is shared among heads, how rows are
/// loaded, turned by position and brought into the range of halves, and how they become factors of products.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/numbers.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/attention/exact.cuh>
#include <mad/cuda/kernels/attention/narrow_half.cuh>
#include <mad/cuda/kernels/rotation.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda::attention_narrow {

using attention_exact::log2_e;
using Operands = AttentionOperands<BFloat16>;

/// A row of a head is but 16 or 32 bytes and a short sequence but little work, so that a block of some warps owns
/// several neighbouring heads of a sequence: their rows are neighbours in memory. Each head has an equal share of the
/// warps and of the rows in shared memory.
template <int Warps>
struct Share {
  static constexpr int warps = Warps;
  static constexpr int threads = 32 * Warps;

  int shift;  ///< log2 of the heads of a block
  int rows;   ///< rows of a head in shared memory, a multiple of 32

  /// For `heads` heads in all, at most `most` of them and `capacity` rows in shared memory for all heads of a block,
  /// for each a multiple of `unit`.
  Share(int heads, int length, int capacity, int most, int unit = 32) : shift(0) {
    while (2 << shift <= most) ++shift;
    while (shift > 0 && (heads % (1 << shift) != 0 || (capacity >> shift) / unit * unit < length)) --shift;
    rows = std::min((capacity >> shift) / unit * unit, (length + unit - 1) / unit * unit);
  }
  /// A head's first row in shared memory. Between heads a row is left out, so that their rows of the same number, which
  /// neighbouring threads load, lie in different banks.
  __host__ __device__ int row(int slot) const { return slot * (rows + 1); }
  /// All rows in shared memory.
  __host__ __device__ int all_rows() const { return row(1 << shift); }

  __device__ int heads() const { return 1 << shift; }
  __device__ int head_warps() const { return warps >> shift; }
  /// The head of a warp, among the block's, and the warp's number among that head's.
  __device__ int head_of(int warp) const { return (warp << shift) / warps; }
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
  __device__ float operator[](int c) const {
    return __uint_as_float(c % 2 == 0 ? pair[c / 2] << 16 : pair[c / 2] & 0xffff0000u);
  }
  /// The square of the row's norm, to a hundredth.
  __device__ float square() const {
    __nv_bfloat162 sum = __hmul2(two(0), two(0));
#pragma unroll
    for (int i = 1; i < Width / 2; ++i) sum = __hfma2(two(i), two(i), sum);
    return __low2float(sum) + __high2float(sum);
  }
  /// The row times a power of two, which rounds nothing.
  __device__ Row times(float power) const {
    const __nv_bfloat162 by = __float2bfloat162_rn(power);
    Row row;
#pragma unroll
    for (int i = 0; i < Width / 2; ++i) {
      const __nv_bfloat162 product = __hmul2(two(i), by);
      row.pair[i] = reinterpret_cast<const std::uint32_t&>(product);
    }
    return row;
  }
  __device__ void unpack(float (&x)[Width]) const {
#pragma unroll
    for (int c = 0; c < Width; ++c) x[c] = (*this)[c];
  }

private:
  __device__ const __nv_bfloat162& two(int i) const { return reinterpret_cast<const __nv_bfloat162&>(pair[i]); }
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

/// The number of the thread, read anew. What is derived from a number that is read once is computed once, before any
/// loop, and there are not the registers to keep it.
__device__ inline int thread_number() {
  int number;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
  return number;
}

__device__ inline int block_number_x() {
  int number;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(number));
  return number;
}
__device__ inline int block_number_y() {
  int number;
  asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(number));
  return number;
}

/// The rows that a thread brings to shared memory: every few of one head of the block, the (thread mod heads)-th.
struct Part {
  int slot;  ///< of the head
  int first;
  int apart;

  template <int Warps>
  __device__ explicit Part(const Share<Warps>& share) : Part(share, thread_number()) {}

private:
  template <int Warps>
  __device__ Part(const Share<Warps>& share, int thread)
      : slot(thread & (share.heads() - 1)), first(thread >> share.shift), apart(Share<Warps>::threads >> share.shift) {}
};

/// Starts to copy two operands' rows [t0, end) of the block's heads, with zeros up to a multiple of `Unit` rows. `a`
/// and `b` are the first rows of the sequence, at the channels of the thread's head.
template <int Width, int Unit, int Warps>
__device__ void copy_rows(BFloat16* to_a, const BFloat16* a, std::size_t a_stride, BFloat16* to_b, const BFloat16* b,
                          std::size_t b_stride, int t0, int end, const Share<Warps>& share) {
  const Part part(share);
  for (int r = part.first; r < (end - t0 + Unit - 1) / Unit * Unit; r += part.apart) {
    const auto t = static_cast<std::size_t>(t0 + r);
    const int to = (share.row(part.slot) + r) * stride<Width>;
    copy_row<Width>(to_a + to, a + t * a_stride, t0 + r < end);
    copy_row<Width>(to_b + to, b + t * b_stride, t0 + r < end);
  }
  commit_copies();
}

/// A row of shared memory as halves.
template <int Width>
__device__ void put_halves(BFloat16* row, const float (&x)[Width]) {
#pragma unroll
  for (int c = 0; c < Width; c += 8)
    *reinterpret_cast<uint4*>(row + c) = uint4{pack_halves(x[c], x[c + 1]), pack_halves(x[c + 2], x[c + 3]),
                                               pack_halves(x[c + 4], x[c + 5]), pack_halves(x[c + 6], x[c + 7])};
}
/// A row of shared memory becomes halves, times a power of two.
template <int Width>
__device__ void make_halves(BFloat16* row, float power) {
  float x[Width];
  Row<Width>::at(row).times(power).unpack(x);
  put_halves(row, x);
}

/// How a thread turns a row by its position: it may ask for the angles, which come from far away, before the row is
/// there. Where not all channels turn in halves, the angles are zero, and `turn_otherwise` does it.
template <int Width>
struct Turn {
  float angle[Width];  ///< cosine and sine of each pair

  __device__ void ask(int position, const Rotation& rotation) {
#pragma unroll
    for (int c = 0; c < Width; ++c) angle[c] = c % 2 == 0 ? 1.0f : 0.0f;
    if (rotation.turns_halves(Width)) rotation.angles(position, angle);
  }
  /// A row of shared memory becomes halves, turned, times a power of two and times a factor.
  __device__ void make_halves(BFloat16* row, float power, float factor) const {
    float x[Width];
    Row<Width>::at(row).times(power).unpack(x);
    Rotation::turn_halves(x, angle, factor);
    put_halves(row, x);
  }
};
/// Turns a row in place where `Turn` does not.
template <int Width, class T>
__device__ void turn_otherwise(T* row, int position, const Rotation& rotation) {
  if (rotation.rotary > 0 && !rotation.turns_halves(Width)) rotation.turn(row, position);
}

/// The largest of the block's numbers, which are not negative. `scratch` is shared memory; a barrier must come before
/// it is used again.
template <int Count, int Warps>
__device__ void find_largest_of_block(float (&x)[Count], float (&scratch)[Count][Warps]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const unsigned largest = __reduce_max_sync(0xffffffffu, __float_as_uint(x[i]));
    if (threadIdx.x % 32 == 0) scratch[i][threadIdx.x / 32] = __uint_as_float(largest);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Count; ++i)
#pragma unroll
    for (int w = 0; w < Warps; ++w) x[i] = fmaxf(x[i], scratch[i][w]);
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

/// Twice 16 rows of shared memory, `apart` from each other; `row` is `offset_of_lane` behind the first.
template <bool Transposed, int Width>
__device__ void load_twice_at(const BFloat16* row, int apart, Matrices<Width> (&m)[2]) {
  if constexpr (Width == 8) {
    tensor::load_matrices<Transposed>(row, reinterpret_cast<std::uint32_t(&)[4]>(m));
  } else {
    tensor::load_matrices<Transposed>(row, reinterpret_cast<std::uint32_t(&)[4]>(m[0]));
    tensor::load_matrices<Transposed>(row + apart, reinterpret_cast<std::uint32_t(&)[4]>(m[1]));
  }
}
template <int Width>
__device__ int offset_of_lane(int apart) {
  const unsigned lane = threadIdx.x % 32;
  return static_cast<int>(lane % 16 * stride<Width> + lane / 16 * (Width == 8 ? apart : 8));
}
/// The same from the first of the rows.
template <bool Transposed, int Width>
__device__ void load_twice(const BFloat16* rows, int apart, Matrices<Width> (&m)[2]) {
  load_twice_at<Transposed>(rows + offset_of_lane<Width>(apart), apart, m);
}

/// True if query t sees key s for `distance` = t - s.
__device__ inline bool sees(int distance, int window) {
  return static_cast<unsigned>(distance) <= static_cast<unsigned>(window);
}

}  // namespace mad::cuda::attention_narrow
