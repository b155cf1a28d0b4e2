// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows of heads on their way to the tensor cores: how they are cut, loaded and turned by position, multiplied, and
/// stored.
#pragma once

#include <mad/cuda/rotation.cuh>
#include <mad/cuda/tensor_core.cuh>

#include <cstdint>

namespace mad::cuda::attention_tensor {

using tensor::Left;
using tensor::Right;
using tensor::Sums;

/// How a head of Width channels is cut: a block owns `rows` rows, 16 per warp, and others pass by in tiles.
template <int Width>
struct Shape {
  static constexpr int warps = Width <= 32 ? 8 : 4;
  static constexpr int threads = 32 * warps;
  static constexpr int rows = 16 * warps;
  static constexpr int tile = Width <= 32 ? 64 : 32;           ///< keys that pass by in the forward pass
  static constexpr int backward_tile = Width <= 32 ? 64 : 16;  ///< keys or queries, in the backward pass
  /// Rows of a warp as left factors stay in registers.
  static constexpr bool kept = Width <= 32;
  static constexpr int depth = Width % 16 == 0 ? 16 : 8;  ///< channels per product
  static constexpr int depths = Width / depth;
  static constexpr int columns = Width / 8;  ///< blocks of sums per row
};

/// Rows [first, first + Rows) of a head; 0 behind the end of the sequence. `threads` threads take part.
template <int Rows, int Width, int Threads>
__device__ void load_rows(tensor::Tile<Rows, Width>& to, const BFloat16* from, std::size_t stride, int first,
                          int length) {
  for (int i = static_cast<int>(threadIdx.x); i < Rows * (Width / 8); i += Threads) {
    const int r = i / (Width / 8);
    const int c = i % (Width / 8) * 8;
    uint4 x{0, 0, 0, 0};
    if (first + r < length)
      x = *reinterpret_cast<const uint4*>(from + static_cast<std::size_t>(first + r) * stride + c);
    *reinterpret_cast<uint4*>(to.row(r) + c) = x;
  }
}

/// The same, turned by position; a thread takes both channels of a pair.
template <int Rows, int Width, int Threads>
__device__ void load_turned(tensor::Tile<Rows, Width>& to, const BFloat16* from, std::size_t stride, int first,
                            int length, const Rotation& rotation) {
  const int pairs = rotation.rotary / 2;
  for (int i = static_cast<int>(threadIdx.x); i < Rows * (Width / 2); i += Threads) {
    const int r = i / (Width / 2);
    const int p = i % (Width / 2);
    const bool turns = p < pairs;
    const int2 channels = turns ? rotation.pair(p) : int2{2 * p, 2 * p + 1};
    float x = 0;
    float y = 0;
    if (first + r < length) {
      const BFloat16* row = from + static_cast<std::size_t>(first + r) * stride;
      x = to_float(row[channels.x]);
      y = to_float(row[channels.y]);
      if (turns) {
        const float2 turn = rotation.table[(first + r) * pairs + p];
        const float turned = x * turn.x - y * turn.y;
        y = x * turn.y + y * turn.x;
        x = turned;
      }
    }
    to.row(r)[channels.x] = __float2bfloat16_rn(x);
    to.row(r)[channels.y] = __float2bfloat16_rn(y);
  }
}

/// The 16 rows of a warp, from row `first` of a tile that is complete in shared memory.
template <int Rows, int Width>
class OwnRows {
public:
  using S = Shape<Width>;
  __device__ OwnRows(const tensor::Tile<Rows, Width>& tile, int first) : tile_(tile), first_(first) {
    if constexpr (S::kept) {
#pragma unroll
      for (int d = 0; d < S::depths; ++d) part_[d] = tile.template left<S::depth>(first, d * S::depth);
    }
  }

  /// Products with 8 rows of `other`, from `row` on.
  template <class B>
  __device__ Sums with_rows(const B& other, int row) const {
    Sums s;
#pragma unroll
    for (int d = 0; d < S::depths; ++d) {
      const auto right = other.template right_of_rows<S::depth>(row, d * S::depth);
      if constexpr (S::kept)
        multiply_add(s, part_[d], right);
      else
        multiply_add(s, tile_.template left<S::depth>(first_, d * S::depth), right);
    }
    return s;
  }

private:
  const tensor::Tile<Rows, Width>& tile_;
  int first_;
  Left<S::depth> part_[S::kept ? S::depths : 1];
};

/// Sums of a block's rows to memory, turned back. `staging` is shared memory of rows x Width floats.
template <int Width, int Threads>
__device__ void store_turned_back(const Sums (&sums)[Width / 8], float factor, float* staging, int own, BFloat16* to,
                                  std::size_t stride, int first, int rows, int length, const Rotation& rotation) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncthreads();  // the memory was used for something else
#pragma unroll
  for (int c = 0; c < Width / 8; ++c)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      staging[(own + lane / 4 + i / 2 * 8) * Width + c * 8 + lane % 4 * 2 + i % 2] = sums[c].value[i] * factor;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < rows * Width; i += Threads) {
    const int t = first + i / Width;
    if (t >= length) break;
    to[static_cast<std::size_t>(t) * stride + i % Width] =
        __float2bfloat16_rn(rotation.turned(staging + i / Width * Width, i % Width, t, -1.0f));
  }
}

}  // namespace mad::cuda::attention_tensor
