// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution of bfloat16 values with a filter of 65 to 1024 taps, on the tensor cores: the filter stays in
/// shared memory while sequences stream past it, and rows move in whole sectors.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/kernels/long_conv/tensor.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mad::cuda::long_conv_tensor {

/// Of one channel and sequence, with positions t = 128 g + 16 d + r, d < 8, r < 16, and lags in steps of 16:
///
///   y[128 g + 16 d + r] = sum_{m, k} H_m[r, k] X_{8 g - m}[k, d],
///   H_m[r, k] = h[16 m + r - k],  X_q[k, d] = u[16 (q + d) + k].
///
/// The Toeplitz matrix H_m consists of three different 8 x 8 blocks, one of which is among those of H_{m-1}. A warp
/// takes all m = 8 i + p at once for p = 0, ..., 7: H_{8 i + p} times X_{8 j - p} belongs to g = i + j.
template <int Blocks>  // of 128 positions in a sequence
struct StreamedMemory {
  static constexpr int channels = 16;          ///< of a thread block, one per warp: whole sectors of 32 bytes
  static constexpr int block = 128;            ///< positions of a product
  static constexpr int span = block * Blocks;  ///< of a sequence
  static constexpr int sequences = Blocks == 1 ? 8 : 16 / Blocks;  ///< at once; their sums take up to 64 registers
  static constexpr int threads = 32 * channels;
  static constexpr int lead = 7;                           ///< steps of 16 positions that X looks back at, zeros
  static constexpr int tap_lead = 16;                      ///< H looks that far back, at zeros
  static constexpr int sequence = (lead * 16 + span) / 2;  ///< halves of a sequence's positions
  static constexpr int apart = (48 + 64 - sequences * sequence % 64) % 64;  ///< the two are 24 banks apart
  static constexpr int together = Blocks == 1 ? 2 : 1;  ///< sequences of which a warp loads blocks in one instruction
  static constexpr int next = Blocks == 1 ? sequence : block / 2;  ///< behind a block, where the one loaded with it is
  static constexpr int parts = sequences * span / threads;  ///< a thread moves two neighbouring positions of each
  static constexpr int ahead = Blocks == 1 ? 2 : 1;  ///< parts on their way at once; short rounds need more of them
  static constexpr int steps = 8 / parts * ahead;    ///< of p meanwhile

  struct Channel {
    // Every other 8 positions together, so that the columns of X are side by side in memory.
    BFloat16 values[2][sequences * sequence + apart];
  };
  /// Stored to side by side with the other piece, which is in other banks.
  struct Piece {
    Channel channel[8];
    std::uint32_t between[16];
  };
  static_assert(sizeof(Row) * 2 * threads * parts <= sizeof(Piece) * 2);
  Piece piece[2][2];                                  ///< of inputs, which results replace; and what comes next
  std::uint32_t taps[channels][tap_lead + span + 2];  ///< h[lag] and h[lag - 1], from lag -tap_lead on
  Row arriving[2 * threads * ahead];                  ///< what is on its way: there are no registers for it

  __device__ Channel& channel(int buffer, int c) { return piece[buffer][c / 8].channel[c % 8]; }
  /// Where a position is among the `values`: which of the two, and where.
  static __device__ int half(int position) { return position / 8 % 2; }
  static __device__ int place(int s, int position) {
    return s * sequence + lead * 8 + position / 16 * 8 + position % 8;
  }
};

/// y[t] = sum_{s<=t} h[t-s] u[s] + skip u[t], or with Backwards y[s] = sum_{t>=s} h[t-s] u[t] + skip u[s]: the same
/// with time reversed. Channel c uses column c mod Filters. A warp writes its results over its inputs, and a thread the
/// next inputs over the last results that it has taken away, so that one barrier per round is enough.
/// Grid: (channels / 16, shares of the sequences).
template <int Filters, bool Backwards, int Blocks>
__global__ void __launch_bounds__(StreamedMemory<Blocks>::threads, 1)
    convolve_streamed(const BFloat16* u, std::size_t u_stride, const float* h, std::size_t h_stride, const float* skip,
                      BFloat16* y, std::size_t y_stride, int batch, int length) {
  using M = StreamedMemory<Blocks>;
  extern __shared__ float4 dynamic_memory[];
  M& memory = *reinterpret_cast<M*>(dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_channel = static_cast<int>(blockIdx.x) * M::channels;

  // What a thread moves: 8 channels of two positions.
  const int piece = static_cast<int>(threadIdx.x) % 2;
  const int moved = static_cast<int>(threadIdx.x) / 2 * 2;
  const int column = first_channel + 8 * piece;
  struct Moved {
    int sequence;
    int position;
    __device__ explicit Moved(int index) : sequence(index / M::span), position(index % M::span) {}
  };
  // Backwards, position p of the sums is token length - 1 - p.
  const auto row = [&](auto* rows, std::size_t stride, int s, int p) {
    const int token = s * length + (Backwards ? length - 1 - p : p);
    return rows + (static_cast<std::size_t>(token) * stride + column);
  };
  const auto words = [&](int buffer, const Moved& at) {
    return memory.piece[buffer][piece].channel[0].values[M::half(at.position)] + M::place(at.sequence, at.position);
  };
  constexpr int channel_stride = sizeof(typename M::Channel) / sizeof(BFloat16);
  const auto fetch = [&](Row* to, int first_sequence, int part) {
    const Moved at(M::threads * part + moved);
    const int s = first_sequence + at.sequence;
#pragma unroll
    for (int k = 0; k < 2; ++k)
      copy_or_clear_async(to + M::threads * k + threadIdx.x, row(u, u_stride, s, at.position + k),
                          s < batch && at.position + k < length);
    commit_copies();
  };
  const auto keep = [&](const Row* from, int buffer, int part) {
    const Moved at(M::threads * part + moved);
    scatter(from[threadIdx.x], from[M::threads + threadIdx.x], words(buffer, at), channel_stride);
  };
  const auto write = [&](int buffer, int first_sequence, int part) {
    const Moved at(M::threads * part + moved);
    const int s = first_sequence + at.sequence;
    if (s < 0 || s >= batch) return;  // there is no round before the first
    Row rows[2];
    gather(words(buffer, at), channel_stride, rows[0], rows[1]);
#pragma unroll
    for (int k = 0; k < 2; ++k)
      if (at.position + k < length) *reinterpret_cast<Row*>(row(y, y_stride, s, at.position + k)) = rows[k];
  };

  const auto clear_lead = [&](int buffer) {  // it stays so
    if (lane >= M::lead * 4) return;
#pragma unroll
    for (int k = 0; k < 2 * M::sequences; ++k)
      reinterpret_cast<std::uint32_t*>(memory.channel(buffer, warp).values[k % 2] + k / 2 * M::sequence)[lane] = 0;
  };

  const int step = static_cast<int>(gridDim.y) * M::sequences;
  int sequence = static_cast<int>(blockIdx.y) * M::sequences;
  {
    Row* all = reinterpret_cast<Row*>(memory.piece[1]);
#pragma unroll
    for (int part = 0; part < M::parts; ++part) fetch(all + 2 * M::threads * part, sequence, part);
    const int c = static_cast<int>(threadIdx.x) % M::channels;
    const int filter = (first_channel + c) % Filters;
    auto* to = reinterpret_cast<BFloat16*>(memory.taps[c] + M::tap_lead);
    const float direct = skip[filter];  // the same as so much more of h[0]
#pragma unroll 8
    for (int lag = static_cast<int>(threadIdx.x) / M::channels; lag < M::span; lag += 32) {
      float tap = lag < length ? h[static_cast<std::size_t>(lag) * h_stride + filter] : 0.0f;
      if (lag == 0) tap += direct;
      to[2 * lag] = to[2 * lag + 3] = from_float<BFloat16>(tap);  // h[lag] of a lag and h[lag - 1] of the next
    }
    if (lane < M::tap_lead) memory.taps[warp][lane] = 0;
    if (lane == 0) reinterpret_cast<BFloat16*>(memory.taps[warp] + M::tap_lead)[1] = from_float<BFloat16>(0.0f);
    wait_for_copies<0>();
#pragma unroll
    for (int part = 0; part < M::parts; ++part) keep(all + 2 * M::threads * part, 0, part);
    clear_lead(0);
  }
  __syncthreads();
  clear_lead(1);

  // Row r = lane / 4 of H, elements k = 2 (lane mod 4) and the next.
  const std::uint32_t* taps = memory.taps[warp] + M::tap_lead + lane / 4 - lane % 4 * 2;
  int buffer = 0;
  for (; sequence < batch; sequence += step) {
    auto& own = memory.channel(buffer, warp);
    // Column d = lane mod 8 of X, elements 0 to 7 or 8 to 15, of the first or second of two blocks.
    const BFloat16* columns = own.values[lane / 8 % 2] + M::lead * 8 + lane % 8 * 8 + lane / 16 * M::next;
    tensor::Sums sum[M::sequences][Blocks];
    tensor::Left<16> left[Blocks];  // its block below the diagonal is above it in the next step
#pragma unroll
    for (int i = 0; i < Blocks; ++i) left[i].part[1] = taps[M::block * i - 8];
#pragma unroll 1
    for (int p = 0; p < 8; ++p) {
      const int part = p / M::steps * M::ahead;
      if (p % M::steps == 0) {
#pragma unroll
        for (int k = 0; k < M::ahead; ++k) fetch(memory.arriving + 2 * M::threads * k, sequence + step, part + k);
#pragma unroll
        for (int k = 0; k < M::ahead; ++k) write(1 - buffer, sequence - step, part + k);
      }
#pragma unroll
      for (int i = 0; i < Blocks; ++i) {
        const std::uint32_t diagonal = taps[M::block * i + 16 * p];
        const std::uint32_t below = taps[M::block * i + 16 * p + 8];
        left[i] = {{diagonal, below, left[i].part[1], diagonal}};
      }
#pragma unroll
      for (int pair = 0; pair < Blocks; pair += 2) {
        if (pair * M::block >= length) break;
#pragma unroll
        for (int s = 0; s < M::sequences; s += M::together) {
          std::uint32_t matrix[4];
          tensor::load_matrices<false>(columns + s * M::sequence + pair * (M::block / 2) - p * 8, matrix);
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const int j = Blocks == 1 ? 0 : pair + k;
            const tensor::Right<16> right{{matrix[2 * k], matrix[2 * k + 1]}};
#pragma unroll
            for (int i = 0; i + j < Blocks; ++i)
              tensor::multiply_add(sum[Blocks == 1 ? s + k : s][i + j], left[i], right);
          }
        }
      }
      if ((p + 1) % M::steps == 0) {
        wait_for_copies<0>();
#pragma unroll
        for (int k = 0; k < M::ahead; ++k) keep(memory.arriving + 2 * M::threads * k, 1 - buffer, part + k);
      }
    }
    __syncwarp();
#pragma unroll
    for (int s = 0; s < M::sequences; ++s)
#pragma unroll
      for (int g = 0; g < Blocks; ++g)
#pragma unroll
        for (int k = 0; k < 2; ++k) {  // rows 0 to 7 or 8 to 15; its transpose has a column's in neighbouring words
          auto* to = reinterpret_cast<std::uint32_t*>(own.values[k] + s * M::sequence + (M::lead + 8 * g) * 8);
          to[lane] = tensor::transposed(tensor::pack(sum[s][g].value[2 * k], sum[s][g].value[2 * k + 1]));
        }
    buffer = 1 - buffer;
    __syncthreads();
  }
#pragma unroll 1  // or registers would spill
  for (int part = 0; part < M::parts; ++part) write(1 - buffer, sequence - step, part);
}

/// True if sequences of \p length stream past a filter in the shared memory of a block, and fill at least half of it.
inline bool streams(Index length) {
  return length > 64 && length <= 1024 &&
         std::max({sizeof(StreamedMemory<1>), sizeof(StreamedMemory<2>), sizeof(StreamedMemory<4>),
                   sizeof(StreamedMemory<8>)}) <= most_shared_memory();
}

/// Into how many shares the rounds of `groups` of channels are split for the least time. A thread block begins with its
/// taps and ends with its last results, which takes about as long as another round.
inline Index shares_of(Index rounds, Index groups, Index multiprocessors) {
  const auto time = [&](Index shares) {
    const Index waves = (groups * shares + multiprocessors - 1) / multiprocessors;
    return waves * ((rounds + shares - 1) / shares + 1);
  };
  Index best = 1;
  for (Index shares = 2; shares <= rounds; ++shares)
    if (time(shares) < time(best)) best = shares;
  return best;
}

template <int Channels, int Filters, bool Backwards>
void launch_streamed(Queue& queue, View<const BFloat16> u, View<const float> h, const float* skip, View<BFloat16> y,
                     const Shape& shape) {
  const auto launch = [&]<int Blocks>(std::integral_constant<int, Blocks>) {
    using M = StreamedMemory<Blocks>;
    constexpr int groups = Channels / M::channels;
    const Index rounds = (shape.batch + M::sequences - 1) / M::sequences;
    const Index shares = shares_of(rounds, groups, queue.multiprocessors());
    queue.launch("a long convolution", convolve_streamed<Filters, Backwards, Blocks>,
                 dim3(static_cast<unsigned>(groups), static_cast<unsigned>(shares)), dim3(M::threads), sizeof(M),
                 u.data, u.stride, h.data, h.stride, skip, y.data, y.stride, shape.batch, shape.length);
  };
  if (shape.length <= 128) return launch(std::integral_constant<int, 1>{});
  if (shape.length <= 256) return launch(std::integral_constant<int, 2>{});
  if (shape.length <= 512) return launch(std::integral_constant<int, 4>{});
  launch(std::integral_constant<int, 8>{});
}

}  // namespace mad::cuda::long_conv_tensor
