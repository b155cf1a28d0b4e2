// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution of bfloat16 values with a filter as long as the sequence, on the tensor cores. Per channel, over
/// 8 sequences b at once, Y = T X with the Toeplitz matrix T[t, s] = h[t - s]: a 16 x 16 tile of T depends on its lag
/// alone, and the tiles of neighbouring steps share all but two registers.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/queue.hpp>
#include <mad/cuda/tensor_core.cuh>

#include <algorithm>
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
/// Two neighbouring positions of 8 channels, side by side in memory, go to `to` with positions side by side.
__device__ inline void scatter(const Row& first, const Row& second, BFloat16* to, int channel_stride) {
#pragma unroll
  for (int c = 0; c < channels; ++c)
    *reinterpret_cast<std::uint32_t*>(to + c * channel_stride) =
        c % 2 == 0 ? low_halves(first.value[c / 2], second.value[c / 2])
                   : high_halves(first.value[c / 2], second.value[c / 2]);
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
  int positions;        ///< the length, rounded up to whole steps of a product
  int stride;           ///< between sequences
  int taps_stride;      ///< between channels
  BFloat16* values;     ///< (channels, sequences, positions), the input and then the result
  std::uint32_t* taps;  ///< (channels, lags from -lead on), h[lag] and h[lag - 1] of each

  static constexpr int lead = 16;  ///< a tile on the diagonal looks that far back, at zeros

  __host__ __device__ explicit Memory(Index sequence_length, void* memory = nullptr)
      : positions(static_cast<int>((sequence_length + 15) / 16 * 16)),
        stride(positions + 8),
        taps_stride((positions + tile - 1) / tile * tile + lead + 20),
        values(static_cast<BFloat16*>(memory)),
        taps(reinterpret_cast<std::uint32_t*>(values + channels * sequences * stride)) {}

  std::size_t bytes() const {
    return sizeof(BFloat16) * channels * sequences * static_cast<std::size_t>(stride) +
           sizeof(std::uint32_t) * channels * static_cast<std::size_t>(taps_stride);
  }
};

/// y[t] = sum_{s<=t} h[t-s] u[s] + skip u[t], or with Backwards y[s] = sum_{t>=s} h[t-s] u[t] + skip u[s]: the same
/// with time reversed. Channel c uses column c mod Filters. Grid: (channels / 8, batch / 8).
template <int Filters, bool Backwards>
__global__ void __launch_bounds__(32 * warps)
    convolve(const BFloat16* u, std::size_t u_stride, const float* h, std::size_t h_stride, const float* skip,
             BFloat16* y, std::size_t y_stride, int batch, int length) {
  extern __shared__ float4 dynamic_memory[];
  const Memory m(length, dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const unsigned first_channel = blockIdx.x * channels;
  {  // the filters
    const unsigned c = threadIdx.x % channels;
    const float* filter = h + (first_channel + c) % Filters;
    const auto tap = [&](int lag) {
      return lag >= 0 && lag < length ? filter[static_cast<std::size_t>(lag) * h_stride] : 0.0f;
    };
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x) / channels; i < m.taps_stride; i += 32 * warps / channels)
      m.taps[static_cast<int>(c) * m.taps_stride + i] = tensor::pack(tap(i - Memory::lead), tap(i - Memory::lead - 1));
  }
  const int b = static_cast<int>(blockIdx.y) * sequences + warp;
  // Backwards, position p of the sums is token length - 1 - p.
  const auto token = [&](int p) {
    return static_cast<std::size_t>(b) * length + static_cast<std::size_t>(Backwards ? length - 1 - p : p);
  };
  BFloat16* moved = m.values + warp * m.stride;
#pragma unroll 4
  for (int p = 2 * lane; p < m.positions; p += 64)
    scatter(read_row(u + token(p) * u_stride + first_channel, b < batch && p < length),
            read_row(u + token(p + 1) * u_stride + first_channel, b < batch && p + 1 < length), moved + p,
            sequences * m.stride);
  __syncthreads();

  const int group = lane / 4;
  const int place = lane % 4 * 2;
  const std::uint32_t* taps = m.taps + warp * m.taps_stride + Memory::lead + group - place;
  BFloat16* own = m.values + warp * sequences * m.stride;
  const float direct = skip[(first_channel + static_cast<unsigned>(warp)) % Filters];
  // The last results first: each tile's replace inputs that no other tile needs.
  for (int first = (length - 1) / tile * tile; first >= 0; first -= tile) {
    constexpr int blocks = tile / 16;
    tensor::Sums sum[blocks];
    std::uint32_t window[2 * blocks + 1];  // lags first - s + 8 (k - 1), each of 8 x 8 elements of the matrix
#pragma unroll
    for (int k = 0; k < 2 * blocks - 1; ++k) window[k] = taps[first + 8 * (k + 1)];
    const auto step = [&](int s, int from) {
#pragma unroll
      for (int k = 2 * blocks; k >= 2; --k) window[k] = window[k - 2];
      window[0] = taps[first - s - 8];
      window[1] = taps[first - s];
      const auto* input = reinterpret_cast<const std::uint32_t*>(own + group * m.stride + s + place);
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
    __syncwarp();
#pragma unroll
    for (int i = 0; i < blocks; ++i) {
      if (first + 16 * i >= m.positions) break;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        BFloat16& value = own[(place + k % 2) * m.stride + first + 16 * i + k / 2 * 8 + group];
        value = from_float<BFloat16>(sum[i].value[k] + direct * to_float(value));
      }
    }
  }
  __syncthreads();

  if (b >= batch) return;
  for (int p = 2 * lane; p < length; p += 64) {
    Row row[2];
    gather(moved + p, sequences * m.stride, row[0], row[1]);
    *reinterpret_cast<Row*>(y + token(p) * y_stride + first_channel) = row[0];
    if (p + 1 < length) *reinterpret_cast<Row*>(y + token(p + 1) * y_stride + first_channel) = row[1];
  }
}

/// The gradient of the filter, dh[j] = sum_{b, t} dy[b, t] u[b, t - j]: of the products P = dY^T U, positions by
/// positions with the sequences in the sum, those tiles at the same distance from the diagonal that have the same lags
/// are added up in registers, and the diagonals of the sums at the end.
struct Correlation {
  static constexpr int sequences = 16;          ///< at a time
  static constexpr int lags = 128;              ///< of a block: 16 tiles of 16 x 8
  static constexpr int positions = 128;         ///< of dy and of u in shared memory
  static constexpr int stride = positions + 8;  ///< eight rows of eight in different banks
  static constexpr int before = 15;             ///< the tiles reach lags that are also the last of other blocks
  static constexpr int results = 144;           ///< before + lags, and one unused
  static constexpr int tile_stride = 16 * 8 + 8;

  union Memory {
    struct {
      BFloat16 dy[channels][sequences][stride];
      BFloat16 u[channels][sequences][stride];
    } values;
    float sums[channels][lags / 8][tile_stride];
  };

  /// Blocks along the lags.
  static constexpr Index blocks(Index length) { return ((length - 1) / 16 * 16 + 8) / lags + 1; }
};

/// Rows and columns of four 8 x 8 blocks exchanged; each lane gives the address of one row.
__device__ inline void load_transposed(const BFloat16* row, std::uint32_t (&part)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// partial[share, block of lags, c, before + j] = sum over a share of the sequences for lag 128 block + j, j >=
/// -before. Grid: (channels / 8, blocks of lags, shares).
template <int Channels>
__global__ void __launch_bounds__(32 * warps, 2)
    correlate(const BFloat16* dy, std::size_t dy_stride, const BFloat16* u, std::size_t u_stride, float* partial,
              int batch, int length) {
  using C = Correlation;
  constexpr int tiles = C::lags / 8;
  extern __shared__ float4 dynamic_memory[];
  C::Memory& m = *reinterpret_cast<C::Memory*>(dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_lag = static_cast<int>(blockIdx.y) * C::lags;
  dy += blockIdx.x * channels;
  u += blockIdx.x * channels;
  const auto stage = [&](const BFloat16* from, std::size_t stride, int first_sequence, int first, BFloat16* to) {
#pragma unroll 2
    for (int i = warp; i < 2 * C::sequences; i += warps) {
      const int b = first_sequence + i / 2;
      const int place = i % 2 * 64 + 2 * lane;
      const int t = first + place;
      const BFloat16* row = from + (static_cast<std::size_t>(b) * length + static_cast<std::size_t>(t)) * stride;
      scatter(read_row(row, b < batch && t < length), read_row(row + stride, b < batch && t + 1 < length),
              to + i / 2 * C::stride + place, C::sequences * C::stride);
    }
  };
  tensor::Sums sum[tiles];  // tile e: positions t of dy and t + 8 - first_lag - 8 e of u
  const int step = static_cast<int>(gridDim.z) * C::sequences;
  for (int b = static_cast<int>(blockIdx.z) * C::sequences; b < batch; b += step) {
    tensor::Right<16> window[tiles]{};  // u before the first position is 0
    for (int first = first_lag; first < length; first += C::positions) {
      __syncthreads();  // the last values are no longer needed
      stage(dy, dy_stride, b, first, &m.values.dy[0][0][0]);
      stage(u, u_stride, b, first - first_lag, &m.values.u[0][0][0]);
      __syncthreads();
#pragma unroll
      for (int t = 0; t < C::positions; t += 16) {
        tensor::Left<16> left;
        load_transposed(&m.values.dy[warp][lane / 16 * 8 + lane % 8][t + lane / 8 % 2 * 8], left.part);
        std::uint32_t right[4];
        load_transposed(&m.values.u[warp][lane % 16][t + lane / 16 * 8], right);
#pragma unroll
        for (int e = tiles - 1; e >= 2; --e) window[e] = window[e - 2];
        window[0] = {{right[2], right[3]}};
        window[1] = {{right[0], right[1]}};
#pragma unroll
        for (int e = 0; e < tiles; ++e) tensor::multiply_add(sum[e], left, window[e]);
      }
    }
  }
  __syncthreads();
  auto& sums = m.sums[warp];
#pragma unroll
  for (int e = 0; e < tiles; ++e)
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[e][(k / 2 * 8 + lane / 4) * 8 + lane % 4 * 2 + k % 2] = sum[e].value[k];
  __syncwarp();
  partial += (static_cast<std::size_t>(blockIdx.z * gridDim.y + blockIdx.y) * Channels + blockIdx.x * channels +
              static_cast<unsigned>(warp)) *
             C::results;
  for (int j = lane; j < C::before + C::lags; j += 32) {
    float total = 0;
#pragma unroll
    for (int row = 0; row < 16; ++row) {  // the element of each row with 8 e - 8 + row - column = j - before
      const int e = (j - row + 7 - C::before + 8) >> 3;
      const int column = 8 * e - 8 + row - j + C::before;
      if (e >= 0 && e < tiles) total += sums[e][row * 8 + column];
    }
    partial[j] = total;
  }
}

/// dh[lag, f] += the partial results of all channels that use filter f; d_skip[f] += the same at lag 0.
template <int Channels, int Filters>
__global__ void __launch_bounds__(256)
    finish(const float* partial, int shares, int blocks, float* dh, std::size_t dh_stride, float* d_skip, int length) {
  using C = Correlation;
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= static_cast<unsigned>(length) * Filters) return;
  const unsigned filter = index / static_cast<unsigned>(length);
  const int lag = static_cast<int>(index % static_cast<unsigned>(length));
  const int block = lag / C::lags;
  const int place = C::before + lag % C::lags;
  const bool twice = place >= C::lags && block + 1 < blocks;
  constexpr std::size_t block_stride = std::size_t{Channels} * C::results;
  float sum = 0;
  for (int p = 0; p < shares; ++p) {
    const float* from = partial + static_cast<std::size_t>(p * blocks + block) * block_stride + place;
#pragma unroll
    for (unsigned c = filter; c < Channels; c += Filters) {
      sum += from[c * C::results];
      if (twice) sum += from[block_stride + c * C::results - C::lags];
    }
  }
  dh[static_cast<std::size_t>(lag) * dh_stride + filter] += sum;
  if (lag == 0) d_skip[filter] += sum;
}

/// True if the present device has the shared memory for sequences of \p length.
inline bool fits(Index length) {
  int device = 0;
  int limit = 0;
  check(cudaGetDevice(&device), "find the current device");
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "ask for the shared memory");
  return Memory(length).bytes() <= static_cast<std::size_t>(limit);
}

template <int Channels, int Filters, bool Backwards>
void launch_convolve(Queue& queue, View<const BFloat16> u, View<const float> h, const float* skip, View<BFloat16> y,
                     const Shape& shape) {
  const dim3 grid(static_cast<unsigned>(Channels / channels),
                  static_cast<unsigned>((shape.batch + sequences - 1) / sequences));
  queue.launch("a long convolution", convolve<Filters, Backwards>, grid, dim3(32 * warps), Memory(shape.length).bytes(),
               u.data, u.stride, h.data, h.stride, skip, y.data, y.stride, shape.batch, shape.length);
}

template <int Channels, int Filters>
void launch_correlate(Queue& queue, View<const BFloat16> dy, View<const BFloat16> u, View<float> dh, float* d_skip,
                      const Shape& shape) {
  using C = Correlation;
  constexpr Index groups = Channels / channels;
  const Index blocks = C::blocks(shape.length);
  const Index most = (shape.batch + C::sequences - 1) / C::sequences;
  const Index shares = std::clamp<Index>(8 * queue.multiprocessors() / (groups * blocks), 1, most);
  float* partial = queue.take<float>(shares * blocks * Channels * C::results);
  const dim3 grid(static_cast<unsigned>(groups), static_cast<unsigned>(blocks), static_cast<unsigned>(shares));
  queue.launch("the filter's gradient of a long convolution", correlate<Channels>, grid, dim3(32 * warps),
               sizeof(C::Memory), dy.data, dy.stride, u.data, u.stride, partial, shape.batch, shape.length);
  queue.launch("the filter's gradient of a long convolution", finish<Channels, Filters>,
               dim3(static_cast<unsigned>((shape.length * Filters + 255) / 256)), dim3(256), 0, partial, shares, blocks,
               dh.data, dh.stride, d_skip, shape.length);
}

}  // namespace mad::cuda::long_conv_tensor
