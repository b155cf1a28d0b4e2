// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums of narrow heads on their way to memory, as the tensor cores leave them: blocks of 16 rows by 8 channels, of
/// which a lane has two neighbouring channels of the rows lane / 4 and lane / 4 + 8. Four neighbouring lanes store a
/// row.
#pragma once

#include <mad/cuda/instructions/numbers.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/rotation.cuh>

#include <cstdint>

namespace mad::cuda::attention_narrow {

/// A block of 16 rows of a head.
template <int Width>
struct RowSums {
  tensor::Sums channels[Width / 8];

  /// The lane's i-th channel of a row, and its number: a lane has two of each 8.
  __device__ float& at(int half, int i) { return channels[i / 2].value[2 * half + i % 2]; }
  static __device__ int channel(int i) { return i / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2; }

  /// What the lane has of row lane / 4 + 8 half, times a factor, to its first channel of the row in memory.
  __device__ void store(int half, float factor, BFloat16* to) {
#pragma unroll
    for (int c = 0; c < Width / 8; ++c)
      *reinterpret_cast<std::uint32_t*>(to + c * 8) =
          tensor::pack(at(half, 2 * c) * factor, at(half, 2 * c + 1) * factor);
  }
};

/// How rows are turned back by their positions where all channels turn in halves: the angles of a lane's channels, for
/// which it may ask before the sums are there, as they come from far away.
template <int Width>
struct TurnBack {
  float angle[2][4];  ///< of a row: cosine and sine of two pairs

  /// For the lane's rows of a block: `position` and eight behind it, or the last one before `end`.
  __device__ void ask(const Rotation& rotation, int position, int end) {
    const float2* from = rotation.table + static_cast<int>(threadIdx.x) % (Width / 4) * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      load(reinterpret_cast<const float*>(from + min(position + 8 * half, end - 1) * (Width / 2)), angle[half]);
  }
  /// All lanes of the warp come here.
  __device__ void turn(RowSums<Width>& sums) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float other[Width / 4];
#pragma unroll
      for (int i = 0; i < Width / 4; ++i)
        other[i] = Width == 8 ? __shfl_xor_sync(0xffffffffu, sums.at(half, i), 2) : sums.at(half, (i + 2) % 4);
#pragma unroll
      for (int i = 0; i < Width / 4; ++i) {
        const float sine = angle[half][i % 2 * 2 + 1];
        sums.at(half, i) = sums.at(half, i) * angle[half][i % 2 * 2] +
                           other[i] * (RowSums<Width>::channel(i) >= Width / 2 ? -sine : sine);
      }
    }
  }
};

/// Turns rows back whose channels turn in other pairs, or not all of them. Rows are `position` + 16 i and eight behind
/// it for the lane, if they are before `end`. This is no part of the code around it, which it would slow down. All
/// lanes of the warp come here.
template <int Width, int Blocks>
__device__ __noinline__ void turn_back_otherwise(RowSums<Width> (&sums)[Blocks], Rotation rotation, int position,
                                                 int end) {
  const int pairs = rotation.rotary / 2;
  const int row = static_cast<int>(threadIdx.x) % 32 / 4 * 4;
#pragma unroll 1
  for (int r = 0; r < 2 * Blocks; ++r, position += 8) {
    RowSums<Width>& x = sums[r / 2];
    const int half = r % 2;
    float turned[Width / 4];
#pragma unroll
    for (int i = 0; i < Width / 4; ++i) {
      const int channel = RowSums<Width>::channel(i);
      const bool second = rotation.interleaved ? channel % 2 != 0 : channel >= pairs;
      const int partner = rotation.interleaved ? channel ^ 1 : second ? channel - pairs : channel + pairs;
      float other = 0;
#pragma unroll
      for (int k = 0; k < Width / 4; ++k) {
        const float there = __shfl_sync(0xffffffffu, x.at(half, k), row + partner % 8 / 2);
        if (k == partner / 8 * 2 + partner % 2) other = there;
      }
      turned[i] = x.at(half, i);
      if (channel >= rotation.rotary || position >= end) continue;
      const float2 by = rotation.table[position * pairs + (rotation.interleaved ? channel / 2 : channel % pairs)];
      turned[i] = turned[i] * by.x + (second ? -other : other) * by.y;
    }
#pragma unroll
    for (int i = 0; i < Width / 4; ++i) x.at(half, i) = turned[i];
  }
}

/// Turns blocks of rows back; those of the lane begin at `position`. All lanes of the warp come here.
template <int Width, int Blocks>
__device__ void turn_back(RowSums<Width> (&sums)[Blocks], const Rotation& rotation, int position, int end) {
  if (rotation.turns_halves(Width)) {
    constexpr int at_once = Blocks % 2 == 0 ? 2 : 1;
#pragma unroll
    for (int j = 0; j < Blocks; j += at_once) {
      TurnBack<Width> turn[at_once];
#pragma unroll
      for (int i = 0; i < at_once; ++i) turn[i].ask(rotation, position + (j + i) * 16, end);
#pragma unroll
      for (int i = 0; i < at_once; ++i) turn[i].turn(sums[j + i]);
    }
  } else if (rotation.rotary > 0) {
    RowSums<Width> in_memory[Blocks];
#pragma unroll
    for (int j = 0; j < Blocks; ++j) in_memory[j] = sums[j];
    turn_back_otherwise(in_memory, rotation, position, end);
#pragma unroll
    for (int j = 0; j < Blocks; ++j) sums[j] = in_memory[j];
  }
}

}  // namespace mad::cuda::attention_narrow
