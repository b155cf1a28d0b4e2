// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How convolutions with short kernels are cut into strips of tokens and chunks of columns, and what their kernels
/// share: taps, rows in whole words, sums over strips.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

namespace mad::cuda::short_conv_detail {

inline constexpr int threads = 256;

/// How Channels channels that read Width columns are cut: a thread has N columns, which are read at once, and `groups`
/// channels for each; if there are more, one round follows the other. Of the taps, W are read at once. With Silu that
/// is taken of the sums.
template <int Taps, int Channels, int Width, int N_, int W, bool Silu = false>
struct Cut {
  static constexpr bool silu = Silu;
  static constexpr int taps = Taps;
  static constexpr int channels = Channels;
  static constexpr int width = Width;
  static constexpr int columns = N_;
  static constexpr int weights_at_once = W;
  static constexpr int all_groups = Channels / Width;
  static constexpr int groups = std::clamp(24 / (Taps * columns), 1, std::min(8 / columns, all_groups));
  static constexpr int rounds = (all_groups + groups - 1) / groups;
  static constexpr int chunks = Width / columns;
  // A block of `backward` has a share of the columns, and as many strips as fit.
  static constexpr int blocks = (chunks + 63) / 64;
  static constexpr int lanes = (chunks + blocks - 1) / blocks;
  static constexpr int strips = threads / lanes;
};

/// The taps of a thread's columns, which lie one behind the other.
template <class C>
__device__ inline void load_taps(const float* from, float (&w)[C::columns][C::taps]) {
  constexpr int at_once = C::weights_at_once;
#pragma unroll
  for (int i = 0; i < C::columns * C::taps; i += at_once) {
    const auto next = *reinterpret_cast<const Chunk<float, at_once>*>(from + i);
#pragma unroll
    for (int k = 0; k < at_once; ++k) w[(i + k) / C::taps][(i + k) % C::taps] = next.value[k];
  }
}

/// Columns of a thread, of which \p chunk can be accessed at once: so few that it has \p most taps.
constexpr int columns_of(int groups, int taps, int chunk, int most) {
  while (chunk > 1 && (chunk * groups > 8 || chunk * groups * taps > most)) chunk /= 2;
  return chunk;
}

/// How sequences are cut into strips of equal length; the last of a sequence may be shorter.
struct Strips {
  int length;        ///< of a sequence
  int tokens;        ///< of a strip
  int per_sequence;  ///< strips
  unsigned count;    ///< of all sequences

  /// Such that about \p wanted threads, \p lanes of them on each strip, share the work.
  Strips(const Shape& shape, Index lanes, Index wanted, int longest) : length(static_cast<int>(shape.length)) {
    const auto share = static_cast<std::uint64_t>(shape.batch * shape.length * lanes / wanted);
    tokens = std::clamp(static_cast<int>(std::bit_floor(share)), 16, longest);
    cut(shape);
  }
  /// No more than \p wanted strips of at least 16 tokens, or one per sequence: all at once.
  static Strips at_most(const Shape& shape, Index wanted) {
    const Index most = std::clamp<Index>(wanted / std::max<Index>(shape.batch, 1), 1, (shape.length + 15) / 16);
    return of(shape, static_cast<int>((shape.length + most - 1) / most));
  }
  /// Strips of \p tokens tokens.
  static Strips of(const Shape& shape, int tokens) { return {shape, tokens}; }

private:
  Strips(const Shape& shape, int tokens_) : length(static_cast<int>(shape.length)), tokens(tokens_) { cut(shape); }
  void cut(const Shape& shape) {
    per_sequence = (length + tokens - 1) / tokens;
    count = static_cast<unsigned>(shape.batch * per_sequence);
  }
};

/// N neighbouring numbers as they are stored, in whole words.
template <class T, int N>
using Stored = Chunk<std::uint32_t, (N * sizeof(T) + 3) / 4>;

template <class T, int N>
__device__ inline Stored<T, N> read(const T* from) {
  if constexpr (N * sizeof(T) < 4)
    return {*reinterpret_cast<const std::uint16_t*>(from)};
  else
    return *reinterpret_cast<const Stored<T, N>*>(from);
}
template <class T, int N>
__device__ inline Stored<T, N> read(const T* from, bool here) {
  return here ? read<T, N>(from) : Stored<T, N>{};
}
template <class T, int N>
__device__ inline void widen(const Stored<T, N>& stored, float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if constexpr (sizeof(T) == 4)
      x[i] = __uint_as_float(stored.value[i]);
    else  // a bfloat16 is the upper half of a float
      x[i] = __uint_as_float(i % 2 == 0 ? stored.value[i / 2] << 16 : stored.value[i / 2] & 0xffff0000u);
  }
}

/// The sums of some columns over the window of a strip.
template <class C>
__device__ inline void convolve(const float (&w)[C::columns][C::taps], const float (&shift)[C::columns],
                                const float (&window)[C::taps][C::columns], float (&sum)[C::columns]) {
#pragma unroll
  for (int c = 0; c < C::columns; ++c) {
    sum[c] = shift[c];
#pragma unroll
    for (int j = 0; j < C::taps; ++j) sum[c] += w[c][j] * window[j][c];
  }
}

/// Adds up a block's strips: put(row, column, sum) is given the sum over them of what mine(row, c) is in the lane that
/// has the column, one of the block's Lanes N. All threads of the block take part.
template <int Rows, int N, int Lanes, int InBlock, int Threads, class Mine, class Put>
__device__ inline void add_strips(float (&sums)[Rows * N][Threads], const Mine& mine, const Put& put) {
  __syncthreads();
#pragma unroll
  for (int r = 0; r < Rows; ++r)
#pragma unroll
    for (int c = 0; c < N; ++c) sums[r * N + c][threadIdx.x] = mine(r, c);
  __syncthreads();
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < Rows * N * Lanes; i += Threads) {
    const int row = i / (N * Lanes);
    const int column = i % (N * Lanes);
    float sum = 0;
#pragma unroll
    for (int s = 0; s < InBlock; ++s) sum += sums[row * N + column % N][s * Lanes + column / N];
    put(row, column, sum);
  }
}

}  // namespace mad::cuda::short_conv_detail
