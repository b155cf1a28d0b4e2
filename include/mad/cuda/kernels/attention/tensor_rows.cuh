// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows of heads on their way to the tensor cores: how they are turned by position, brought to shared memory, read as
/// factors of products, and stored.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/numbers.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/attention/exact.cuh>
#include <mad/cuda/kernels/rotation.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda::attention_tensor {

using attention_exact::log2_e;
using tensor::Left;
using tensor::Right;
using tensor::Sums;
using Operands = AttentionOperands<BFloat16>;

inline constexpr int warps = 4;
inline constexpr int threads = 32 * warps;

/// A head of Width channels as the tensor cores see it.
template <int Width>
struct Head {
  static constexpr int channels = (Width + 15) / 16 * 16;  ///< those from Width on are 0
  static constexpr int depths = channels / 16;             ///< products over 16 channels
  static constexpr int columns = channels / 8;             ///< blocks of sums of a row
};

/// Dynamic shared memory begins at a multiple of it.
struct alignas(128) Line {
  unsigned char byte[128];
};

/// Rows in shared memory. The pieces of 16 bytes that a row consists of change places from row to row, so that the same
/// piece of eight neighbouring rows lies in different banks.
template <int Rows, int Channels>
struct alignas(128) Tile {
  static constexpr int pieces = Channels / 8;
  static constexpr int orders = pieces % 8 == 0 ? 8 : pieces % 4 == 0 ? 4 : 2;
  static_assert(Rows % 16 == 0 && Channels % 16 == 0);
  BFloat16 value[Rows * Channels];

  static __device__ int order(int row) { return row / (8 / orders) % orders; }
  __device__ BFloat16* piece(int row, int p) { return value + row * Channels + (p ^ order(row)) * 8; }

  /// Rows [r, r + 16), channels [16 d, 16 d + 16) as left factor of a product over the channels.
  __device__ Left<16> left(int r, int d) const {
    Left<16> a;
    matrices<false, true>(r, d, a.part);
    return a;
  }
  /// Twice eight of these rows as right factors of products over the channels.
  __device__ void right_of_rows(int r, int d, Right<16> (&b)[2]) const {
    matrices<false, false>(r, d, reinterpret_cast<std::uint32_t(&)[4]>(b));
  }
  /// Twice eight of these channels as right factors of products over the rows.
  __device__ void right(int r, int d, Right<16> (&b)[2]) const {
    matrices<true, true>(r, d, reinterpret_cast<std::uint32_t(&)[4]>(b));
  }

private:
  /// The four 8 x 8 matrices of 16 x 16 numbers, down the rows first or along them. r is a multiple of 8.
  template <bool Transposed, bool RowsFirst>
  __device__ void matrices(int r, int d, std::uint32_t (&matrix)[4]) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = RowsFirst ? lane % 16 : lane / 16 * 8 + lane % 8;
    const int piece = RowsFirst ? lane / 16 : lane / 8 % 2;
    // Only the last three bits of a piece's number change. Where a row begins with them all 0, flipping those of d in
    // the address itself does it.
    constexpr bool flips = Channels % 64 == 0;
    const int column = (piece ^ order(lane % 8)) * 8 ^ (flips ? 0 : d % 4 * 16);
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(value + row * Channels + column));
    constexpr int size = sizeof(BFloat16);
    tensor::load_matrices<Transposed>(address, flips ? d % 4 * 16 * size : 0, (r * Channels + d / 4 * 64) * size,
                                      matrix);
  }
};

/// Adds the products of 16 Blocks rows of `a`, from `own` on, with all rows of `b`.
template <int Depths, int Blocks, int Columns, class A, class B>
__device__ void multiply_rows(Sums (&sums)[Blocks][Columns], const A& a, int own, const B& b) {
#pragma unroll 4
  for (int d = 0; d < Depths; ++d) {
    Left<16> left[Blocks];
#pragma unroll
    for (int m = 0; m < Blocks; ++m) left[m] = a.left(own + m * 16, d);
#pragma unroll
    for (int j = 0; j < Columns; j += 2) {
      Right<16> right[2];
      b.right_of_rows(j * 8, d, right);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int m = 0; m < Blocks; ++m) multiply_add(sums[m][j + i], left[m], right[i]);
    }
  }
}

/// Whether a warp's queries, `Queries` neighbours, see `Keys` neighbouring keys, where `distance` lies between the
/// first key and the first query: some see some, and all see all.
template <int Queries, int Keys>
__device__ bool some_seen(int distance, int window) {
  return distance > -Queries && distance - Keys < window;
}
template <int Queries, int Keys>
__device__ bool all_seen(int distance, int window) {
  return distance >= Keys - 1 && distance + Queries - 1 <= window;
}

/// Sets scores to minus infinity where the query does not see the key. Rows are queries and columns keys, or the other
/// way round; `distance` lies between the first column and the first row.
template <bool RowsAreKeys, int Blocks, int Columns>
__device__ void hide_unseen(Sums (&score)[Blocks][Columns], int distance, int window) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  distance += lane / 4 - lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < Blocks; ++m)
#pragma unroll
    for (int j = 0; j < Columns; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int apart = distance + m * 16 + i / 2 * 8 - j * 8 - i % 2;
        // From the key to the query: 0 to `window`.
        if (static_cast<unsigned>(RowsAreKeys ? -apart : apart) > static_cast<unsigned>(window))
          score[m][j].value[i] = -INFINITY;
      }
}

/// Starts to copy rows [first, first + Rows) of a head of each of N operands; zeros from row `end` on. One loop for
/// all, and that not unrolled: there are better uses for registers than addresses.
template <int Width, int Rows, int Channels, int N>
__device__ void fetch(Tile<Rows, Channels>* const (&to)[N], const BFloat16* const (&from)[N],
                      const std::size_t (&stride)[N], int first, int end) {
  constexpr int pieces = Channels / 8;
  constexpr int at_once = threads / pieces;  // rows
  const int p = static_cast<int>(threadIdx.x) % pieces;
  const int r0 = static_cast<int>(threadIdx.x) / pieces;
  if (r0 >= at_once) return;
  const BFloat16* row[N];
#pragma unroll
  for (int k = 0; k < N; ++k)
    row[k] = from[k] + static_cast<std::size_t>(first + r0) * static_cast<unsigned>(stride[k]) + p * 8;
#pragma unroll 1
  for (int r = r0; r < Rows; r += at_once)
#pragma unroll
    for (int k = 0; k < N; ++k) {
      copy_or_clear_async(to[k]->piece(r, p), row[k], first + r < end && p * 8 < Width);
      row[k] += at_once * static_cast<unsigned>(stride[k]);
    }
}

/// Turns Rows rows of a head by their positions, from `first` on, with the angle, or against it if `sign` is -1.
/// `from(t)` is row t, of which `to(t, c, x)` gets channels [c, c + 8); rows from `end` on are not read: they get what
/// the one before has. `thread` is one of Threads that take part.
template <int Width, int Rows, int Threads, class From, class To>
__device__ void turn_rows(int thread, int first, int end, float sign, const Rotation& rotation, const From& from,
                          const To& to) {
  constexpr int pieces = Width / 8;
  constexpr int count = Rows * pieces;
  constexpr int at_once = 4;  // memory is far away
  const int pairs = rotation.rotary / 2;
#pragma unroll 1
  for (int begin = thread; begin < count; begin += at_once * Threads) {
    const auto channel = [&](int u) { return (begin + u * Threads) % pieces * 8; };
    const auto position = [&](int u) { return min(first + min(begin + u * Threads, count - 1) / pieces, end - 1); };
    const auto give = [&](int u, const float(&x)[8]) {
      if (begin + u * Threads < count) to(first + (begin + u * Threads) / pieces, channel(u), x);
    };
    if (rotation.interleaved || pairs % 8 != 0) {
#pragma unroll 1
      for (int u = 0; u < at_once; ++u) {
        float x[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = rotation.turned(from(position(u)), channel(u) + i, position(u), sign);
        give(u, x);
      }
      continue;
    }
    float x[at_once][8];
#pragma unroll
    for (int u = 0; u < at_once; ++u) load(from(position(u)) + channel(u), x[u]);
    if (pairs > 0) {
      float other[at_once][8];
      float turn[at_once][16];
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        const int c = channel(u);
        const int apart = c < pairs ? pairs : c < 2 * pairs ? -pairs : 0;  // from the channels that turn with these
        load(from(position(u)) + c + apart, other[u]);
        load(reinterpret_cast<const float*>(rotation.table + position(u) * pairs + c % pairs), turn[u]);
      }
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        const float by = channel(u) < pairs ? -sign : sign;
        if (channel(u) < 2 * pairs)
#pragma unroll
          for (int i = 0; i < 8; ++i) x[u][i] = x[u][i] * turn[u][2 * i] + by * other[u][i] * turn[u][2 * i + 1];
      }
    }
#pragma unroll
    for (int u = 0; u < at_once; ++u) give(u, x[u]);
  }
}

/// A block's own queries, turned, to shared memory, and to rows of the head in `turned` unless that is null.
template <int Width, int Rows, int Channels>
__device__ void load_queries(Tile<Rows, Channels>& to, const BFloat16* q, std::size_t stride, int first, int length,
                             const Rotation& rotation, BFloat16* turned, std::size_t turned_stride) {
  if (Channels > Width)
    for (int r = static_cast<int>(threadIdx.x); r < Rows; r += threads)
      *reinterpret_cast<uint4*>(to.piece(r, Width / 8)) = uint4{0, 0, 0, 0};
  turn_rows<Width, Rows, threads>(
      static_cast<int>(threadIdx.x), first, length, 1.0f, rotation,
      [&](int t) { return q + static_cast<std::size_t>(t) * stride; },
      [&](int t, int c, const float(&x)[8]) {
        store(to.piece(t - first, c / 8), x);
        if (turned != nullptr && t < length) store(turned + static_cast<std::size_t>(t) * turned_stride + c, x);
      });
}

/// From row to row of sums in shared memory: four neighbouring rows share no bank.
template <int Width>
inline constexpr int staging_stride = Head<Width>::channels + 8;

/// Sums of a warp's 16 Blocks rows, times a factor for each row, to a head's rows from `first` on and before `end`,
/// turned back by a rotation. By way of `staging`, the warp's shared memory of so many rows, so that whole rows are
/// written.
template <int Width, int Blocks>
__device__ void store_rows(const Sums (&sums)[Blocks][Head<Width>::columns], const float (&factor)[Blocks][2],
                           float* staging, BFloat16* to, std::size_t stride, int first, int end,
                           const Rotation& rotation) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < Blocks; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float* row = staging + (m * 16 + h * 8 + lane / 4) * staging_stride<Width> + lane % 4 * 2;
#pragma unroll
      for (int c = 0; c < Head<Width>::columns; ++c)
        *reinterpret_cast<float2*>(row + c * 8) =
            float2{sums[m][c].value[2 * h] * factor[m][h], sums[m][c].value[2 * h + 1] * factor[m][h]};
    }
  __syncwarp();
  if (first >= end) return;
  turn_rows<Width, 16 * Blocks, 32>(
      lane, first, end, -1.0f, rotation, [&](int t) { return staging + (t - first) * staging_stride<Width>; },
      [&](int t, int c, const float(&x)[8]) {
        if (t < end) store(to + static_cast<std::size_t>(t) * stride + c, x);
      });
}

/// Which head of which sequence a block takes rows of. Blocks begin in the order of their indices: a wave of them, all
/// that run at once, takes all tiles of rows of some heads, so that these are read from the second-level cache; and
/// those with the most to do go first, so that all multiprocessors end at about the same time. Grid: (heads of a wave,
/// tiles, waves).
struct Place {
  int head;
  int sequence;

  __device__ explicit Place(int heads) {
    const int index = static_cast<int>(blockIdx.z * gridDim.x + blockIdx.x);
    head = index % heads;
    sequence = index / heads;
  }
};
/// The grid for `heads` heads, of all sequences, and `at_once` blocks per multiprocessor.
inline dim3 grid(const Queue& queue, int heads, int tiles, int at_once) {
  const int slots = at_once * queue.multiprocessors();
  const int waves = std::max(1, (heads * tiles + slots / 2) / slots);
  const int per_wave = (heads + waves - 1) / waves;
  return dim3(static_cast<unsigned>(per_wave), static_cast<unsigned>(tiles),
              static_cast<unsigned>((heads + per_wave - 1) / per_wave));
}

/// Turned keys, rows without gaps. Grid: (tiles of rows, key heads, batch).
inline constexpr int turn_tile = 32;
template <int Width>
__global__ void __launch_bounds__(threads, 3)
    turn_keys(AttentionSizes n, const BFloat16* k, std::size_t k_stride, BFloat16* turned) {
  const int head = static_cast<int>(blockIdx.y);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  turn_rows<Width, turn_tile, threads>(
      static_cast<int>(threadIdx.x), static_cast<int>(blockIdx.x) * turn_tile, n.length, 1.0f, n.rotation(),
      [&](int t) { return k + (sequence + t) * k_stride + head * Width; },
      [&](int t, int c, const float(&x)[8]) {
        if (t < n.length) store(turned + ((sequence + t) * n.kv_heads + head) * Width + c, x);
      });
}

/// The operands with keys that are turned, where they turn at all.
template <int Width>
Operands with_turned_keys(Queue& queue, const AttentionSizes& n, Operands of) {
  if (n.rotary == 0) return of;
  BFloat16* turned = queue.take<BFloat16>(Index{n.batch} * n.length * n.kv_heads * Width);
  const dim3 grid(static_cast<unsigned>((n.length + turn_tile - 1) / turn_tile), static_cast<unsigned>(n.kv_heads),
                  static_cast<unsigned>(n.batch));
  queue.launch("a rotation of keys", turn_keys<Width>, grid, dim3(threads), 0, n, of.k, of.k_stride, turned);
  of.k = turned;
  of.k_stride = static_cast<std::size_t>(n.kv_heads) * Width;
  return of;
}

/// True if there are more blocks of so many queries than multiprocessors; else smaller ones are done sooner.
inline bool fills(const Queue& queue, const AttentionSizes& n, int rows) {
  return Index{n.batch} * n.heads * ((n.length + rows - 1) / rows) > queue.multiprocessors();
}

}  // namespace mad::cuda::attention_tensor
