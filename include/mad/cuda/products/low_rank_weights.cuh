// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The weights of a product of low rank (low_rank_product.cuh) in shared memory. They come by asynchronous copies: a
/// warp that waited for them in registers would wait for all that it has asked for since.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/products/product_group.cuh>

#include <cstdint>

namespace mad::cuda::low_rank_detail {

inline constexpr int widest = 256;  ///< columns of x and of y
inline constexpr int most_middle = 32;
inline constexpr int warps = 8;
inline constexpr int threads = 32 * warps;
inline constexpr unsigned block_rows = 16 * warps;

using product_group_detail::Term;

/// W1 in shared memory, turned: the left factor of 16 columns of z, since rows of x are a right factor as a lane reads
/// them. Of 32 neighbouring summands number 8 q + 2 m + b is number 2 q + b of the m-th of four matrices. A lane has
/// its numbers of two of these together.
template <int Middle>
struct First {
  static constexpr int summands = widest;
  static constexpr int columns = Middle;
  static constexpr int size = summands * columns;
  static constexpr bool has_pieces = false;
  static constexpr __device__ int at(int summand, int column) {
    const int step = column / 16 * (widest / 16) + summand / 32 * 2 + summand % 8 / 4;
    const int lane = column % 8 * 4 + summand % 32 / 8;
    return (step * 32 + lane) * 8 + summand % 4 / 2 * 4 + column % 16 / 8 * 2 + summand % 2;
  }
};
/// W2. Its columns are in the order of W1's summands, so that a lane has 8 neighbouring columns of y.
template <int Middle>
struct Second {
  static constexpr int summands = Middle;
  static constexpr int columns = widest;
  static constexpr int stride = Middle + 8;  ///< eight rows below each other lie in different banks
  static constexpr int size = stride * columns;
  static constexpr bool has_pieces = true;  ///< of 8 neighbouring summands
  static constexpr __device__ int at(int summand, int column) {
    return (column / 32 * 32 + column % 8 / 2 * 8 + column % 32 / 8 * 2 + column % 2) * stride + summand;
  }
};

/// A weight in shared memory, which comes in pieces of 8 numbers as they are stored. What does not exist is 0.
template <class F, bool InOut>
struct Weight {
  static constexpr unsigned rounds = F::summands * F::columns / 8 / threads;
  static_assert(rounds * threads * 8 == F::summands * F::columns);
  /// Pieces come to where they belong; otherwise threads put their numbers there.
  static constexpr bool comes_arranged = F::has_pieces && !InOut;

  uint4 piece[comes_arranged ? 1 : rounds * threads];
  BFloat16 value[F::size];

  __device__ void fetch_async(const Term& term, int columns) {
#pragma unroll
    for (unsigned i = 0; i < rounds; ++i) {
      const int k = summand(i);
      const int n = column(i);
      void* to = comes_arranged ? static_cast<void*>(value + F::at(k, n)) : piece + i * threads + threadIdx.x;
      copy_or_clear_async(to, term.weight + (InOut ? k : n) * term.weight_stride + (InOut ? n : k),
                          k < term.inner && n < columns);
    }
  }
  /// When the thread's own copies have arrived.
  __device__ void arrange() {
    if constexpr (!comes_arranged) {
#pragma unroll
      for (unsigned i = 0; i < rounds; ++i) put(summand(i), column(i), piece[i * threads + threadIdx.x]);
    }
  }

private:
  __device__ void put(int k, int n, const uint4& eight) {
    const std::uint32_t words[4]{eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      if constexpr (InOut)
        reinterpret_cast<std::uint16_t*>(value)[F::at(k, n + c)] =
            static_cast<std::uint16_t>(words[c / 2] >> c % 2 * 16);
      else if (c % 2 == 0)
        *reinterpret_cast<std::uint32_t*>(value + F::at(k + c, n)) = words[c / 2];
    }
  }
  /// Pieces of a row that neighbouring threads take, of up to 64 bytes; then come other rows.
  static constexpr unsigned beside = F::summands >= 32 ? 4 : F::summands / 8;
  static __device__ int summand(unsigned round) {
    const unsigned own = round * threads + threadIdx.x;
    if constexpr (InOut) return static_cast<int>(own % F::summands);
    return static_cast<int>((own % beside + own / (beside * F::columns) * beside) * 8);
  }
  static __device__ int column(unsigned round) {
    const unsigned own = round * threads + threadIdx.x;
    return static_cast<int>(InOut ? own / F::summands * 8 : own / beside % F::columns);
  }
};

template <int Middle, bool InOut>
struct Memory {
  Weight<First<Middle>, InOut> first;
  Weight<Second<Middle>, InOut> second;
  BFloat16 bias[widest];
};

}  // namespace mad::cuda::low_rank_detail
