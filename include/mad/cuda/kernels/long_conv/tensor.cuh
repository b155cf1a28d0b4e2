// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution of bfloat16 values with a filter as long as the sequence, on the tensor cores. Per channel, over
/// 8 sequences b at once, Y = T X with the Toeplitz matrix T[t, s] = h[t - s]: a 16 x 16 tile of T depends on its lag
/// alone, and the tiles of neighbouring steps share all but two registers.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/tensor_core.cuh>

#include <cstddef>
#include <cstdint>

namespace mad::cuda::long_conv_tensor {

inline constexpr int channels = 8;   ///< of a block, one per warp: rows are read and written 16 bytes at a time
inline constexpr int sequences = 8;  ///< of a block: the columns of a product
inline constexpr int warps = 8;      ///< each moves one sequence and computes one channel
inline constexpr int tile = 128;     ///< results of a channel and sequence that are in registers at once

using Row = Chunk<std::uint32_t, 4>;  // 8 channels at one position

__device__ inline Row read_row(const BFloat16* row, bool here) {
  return here ? *reinterpret_cast<const Row*>(row) : Row{};
}
__device__ inline std::uint32_t low_halves(std::uint32_t first, std::uint32_t second) {
  return (first & 0xffffu) | second << 16;
}
__device__ inline std::uint32_t high_halves(std::uint32_t first, std::uint32_t second) {
  return first >> 16 | (second & 0xffff0000u);
}
/// Channel c of two positions of 8 channels.
__device__ inline std::uint32_t neighbours(const Row& first, const Row& second, int c) {
  return c % 2 == 0 ? low_halves(first.value[c / 2], second.value[c / 2])
                    : high_halves(first.value[c / 2], second.value[c / 2]);
}
/// Two neighbouring positions of 8 channels, side by side in memory, go to `to` with positions side by side.
__device__ inline void scatter(const Row& first, const Row& second, BFloat16* to, int channel_stride) {
#pragma unroll
  for (int c = 0; c < channels; ++c)
    *reinterpret_cast<std::uint32_t*>(to + c * channel_stride) = neighbours(first, second, c);
}
/// And back.
__device__ inline void gather(const BFloat16* from, int channel_stride, Row& first, Row& second) {
#pragma unroll
  for (int c = 0; c < channels; c += 2) {
    const auto even = *reinterpret_cast<const std::uint32_t*>(from + c * channel_stride);
    const auto odd = *reinterpret_cast<const std::uint32_t*>(from + (c + 1) * channel_stride);
    first.value[c / 2] = low_halves(even, odd);
    second.value[c / 2] = high_halves(even, odd);
  }
}

/// What a block of `convolve` holds in shared memory. Strides are such that a warp's accesses meet different banks.
struct Memory {
  static constexpr int lead = 16;  ///< a matrix on the diagonal looks that far back, at zeros

  int positions;        ///< the length, rounded up to whole steps of a product
  int tiles;            ///< of results
  int stride;           ///< between sequences
  int result_stride;    ///< likewise
  int taps_stride;      ///< between channels
  BFloat16* values;     ///< (channels, sequences, positions)
  BFloat16* results;    ///< (channels, sequences, positions of a tile)
  std::uint32_t* taps;  ///< (channels, lags from -lead on), h[lag] and h[lag - 1] of each

  __host__ __device__ explicit Memory(Index sequence_length, void* memory = nullptr)
      : positions(static_cast<int>((sequence_length + 15) / 16 * 16)),
        tiles((positions + tile - 1) / tile),
        stride(positions + 8),
        result_stride((tiles == 1 ? positions : tile) + 8),
        taps_stride(tiles * tile + lead + 20),
        values(static_cast<BFloat16*>(memory)),
        results(values + channels * sequences * stride),
        taps(reinterpret_cast<std::uint32_t*>(results + channels * sequences * result_stride)) {}

  std::size_t bytes() const {
    return sizeof(BFloat16) * channels * sequences * static_cast<std::size_t>(stride + result_stride) +
           sizeof(std::uint32_t) * channels * static_cast<std::size_t>(taps_stride);
  }
};

/// A thread's part of a tile's inputs on its way from memory: of its warp's sequence, positions 2 lane, 2 lane + 1 and
/// those 64 behind; of filter thread mod 8 every 32nd lag.
struct Fetched {
  Row row[4];
  float tap[4];
};

/// y[t] = sum_{s<=t} h[t-s] u[s] + skip u[t], or with Backwards y[s] = sum_{t>=s} h[t-s] u[t] + skip u[s]: the same
/// with time reversed. Channel c uses column c mod Filters. The results of a tile need the inputs up to it: while they
/// are computed, the next inputs are on their way. Grid: (channels / 8, batch / 8).
template <int Filters, bool Backwards>
__global__ void __launch_bounds__(32 * warps, 2)
    convolve(const BFloat16* u, std::size_t u_stride, const float* h, std::size_t h_stride, const float* skip,
             BFloat16* y, std::size_t y_stride, int batch, int length) {
  extern __shared__ float4 dynamic_memory[];
  const Memory m(length, dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const unsigned first_channel = blockIdx.x * channels;
  const int b = static_cast<int>(blockIdx.y) * sequences + warp;
  // Backwards, position p of the sums is token length - 1 - p.
  const auto token = [&](int p) {
    return static_cast<std::size_t>(b) * length + static_cast<std::size_t>(Backwards ? length - 1 - p : p);
  };
  const unsigned filter = (first_channel + threadIdx.x % channels) % Filters;
  const float direct = skip[filter];  // the same as so much more of h[0]
  std::uint32_t* own_taps = m.taps + static_cast<int>(threadIdx.x) % channels * m.taps_stride;
  const auto fetch = [&](int first) {
    Fetched f;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int p = first + 2 * lane + k / 2 * 64 + k % 2;
      f.row[k] = read_row(u + token(p) * u_stride + first_channel, b < batch && p < length);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int lag = first + static_cast<int>(threadIdx.x) / channels + 32 * k;
      f.tap[k] = lag < length ? h[static_cast<std::size_t>(lag) * h_stride + filter] : 0.0f;
      if (lag == 0) f.tap[k] += direct;
    }
    return f;
  };
  const auto keep = [&](const Fetched& f, int first) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int p = first + 2 * lane + 64 * k;
      if (p < m.positions)
        scatter(f.row[2 * k], f.row[2 * k + 1], m.values + warp * m.stride + p, sequences * m.stride);
    }
    auto* to = reinterpret_cast<BFloat16*>(own_taps + Memory::lead + first + static_cast<int>(threadIdx.x) / channels);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const BFloat16 tap = from_float<BFloat16>(f.tap[k]);
      to[64 * k] = tap;      // h[lag] of a lag
      to[64 * k + 3] = tap;  // and h[lag - 1] of the next
    }
  };
  const auto write = [&](int first) {
    if (b >= batch) return;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int place = 2 * lane + 64 * k;
      const int p = first + place;
      if (p >= length) return;
      Row row[2];
      gather(m.results + warp * m.result_stride + place, sequences * m.result_stride, row[0], row[1]);
      *reinterpret_cast<Row*>(y + token(p) * y_stride + first_channel) = row[0];
      if (p + 1 < length) *reinterpret_cast<Row*>(y + token(p + 1) * y_stride + first_channel) = row[1];
    }
  };

  keep(fetch(0), 0);
  if (threadIdx.x < channels * Memory::lead) own_taps[threadIdx.x / channels] = 0;
  if (threadIdx.x < channels) reinterpret_cast<BFloat16*>(own_taps + Memory::lead)[1] = from_float<BFloat16>(0.0f);
  __syncthreads();

  const int group = lane / 4;
  const int place = lane % 4 * 2;
  const std::uint32_t* taps = m.taps + warp * m.taps_stride + Memory::lead + group - place;
  const BFloat16* own = m.values + (warp * sequences + group) * m.stride + place;
  BFloat16* result = m.results + (warp * sequences + place) * m.result_stride + group;
  for (int first = 0; first < length; first += tile) {
    constexpr int blocks = tile / 16;
    const bool more = first + tile < length;
    Fetched next;
    if (more) next = fetch(first + tile);
    if (first > 0) write(first - tile);

    tensor::Sums sum[blocks];
    std::uint32_t window[2 * blocks + 1];  // lags first - s + 8 (k - 1), each of 8 x 8 elements of the matrix
#pragma unroll
    for (int k = 0; k < 2 * blocks - 1; ++k) window[k] = taps[first + 8 * (k + 1)];
    const auto step = [&](int s, int from) {
#pragma unroll
      for (int k = 2 * blocks; k >= 2; --k) window[k] = window[k - 2];
      window[0] = taps[first - s - 8];
      window[1] = taps[first - s];
      const auto* input = reinterpret_cast<const std::uint32_t*>(own + s);
      const tensor::Right<16> right{{input[0], input[4]}};
#pragma unroll
      for (int i = 0; i < blocks; ++i)
        if (i >= from)
          tensor::multiply_add(sum[i], {{window[2 * i + 1], window[2 * i + 2], window[2 * i], window[2 * i + 1]}},
                               right);
    };
#pragma unroll 8
    for (int s = 0; s < first; s += 16) step(s, 0);
#pragma unroll
    for (int i = 0; i < blocks; ++i)
      if (first + 16 * i < m.positions) step(first + 16 * i, i);

    __syncthreads();  // the last tile's results are no longer needed
#pragma unroll
    for (int i = 0; i < blocks; ++i) {
      if (first + 16 * i >= m.positions) break;
#pragma unroll
      for (int k = 0; k < 4; ++k)
        result[k % 2 * m.result_stride + 16 * i + k / 2 * 8] = from_float<BFloat16>(sum[i].value[k]);
    }
    if (more) keep(next, first + tile);
    __syncthreads();
  }
  write((m.tiles - 1) * tile);
}

/// Shared memory that a block may have on the present device.
inline std::size_t most_shared_memory() {
  int device = 0;
  int limit = 0;
  check(cudaGetDevice(&device), "find the current device");
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "ask for the shared memory");
  return static_cast<std::size_t>(limit);
}
/// True if it is enough for sequences of \p length.
inline bool fits(Index length) { return Memory(length).bytes() <= most_shared_memory(); }

template <int Channels, int Filters, bool Backwards>
void launch_convolve(Queue& queue, View<const BFloat16> u, View<const float> h, const float* skip, View<BFloat16> y,
                     const Shape& shape) {
  const dim3 grid(static_cast<unsigned>(Channels / channels),
                  static_cast<unsigned>((shape.batch + sequences - 1) / sequences));
  queue.launch("a long convolution", convolve<Filters, Backwards>, grid, dim3(32 * warps), Memory(shape.length).bytes(),
               u.data, u.stride, h.data, h.stride, skip, y.data, y.stride, shape.batch, shape.length);
}

}  // namespace mad::cuda::long_conv_tensor
