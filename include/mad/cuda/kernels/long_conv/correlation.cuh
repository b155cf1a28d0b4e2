// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of a filter as long as the sequence, of bfloat16 values, on the tensor cores: products of Toeplitz
/// matrices of the inputs with blocks of the outputs' gradients.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/kernels/long_conv/tensor.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mad::cuda::long_conv_tensor {

/// dh[j] = sum_{b, t} dy[b, t] u[b, t - j], with lags j = 128 g + 16 d + r, d < 8, r < 16, and in steps of 16 positions
/// s + k, k < 16:
///
///   dh[128 g + 16 d + r] = sum_{b, s, k} U[r, k] D[k, d],
///   U[r, k] = u[b, s + k - r],  D[k, d] = dy[b, s + 128 g + 16 d + k].
///
/// No two sums of the 16 x 8 product belong to the same lag, so that a warp has all lags of a channel in 4 registers
/// per 128 of them, and inputs are read once. U is a Toeplitz matrix of three different 8 x 8 blocks, one of which is
/// among those of the step before. The blocks D at steps s and s + 128 overlap: a warp takes all steps s = 128 i + p at
/// once for p = 0, 16, ..., 112, and multiplies block i of u with all blocks m >= i of dy, for g = m - i.
struct Correlation {
  static constexpr int block = 128;                 ///< positions, and lags of a product
  static constexpr int blocks = 8;                  ///< in shared memory at once, of one sequence or of several
  static constexpr int positions = block * blocks;  ///< likewise
  static constexpr int rows = 4;                    ///< that a thread moves at a time, neighbouring positions
  static constexpr int multiprocessor_warps = 16;   ///< that run at once, having 128 registers
  static constexpr int lead = 16;                   ///< U looks that far back
};

/// What a thread block that computes Group channels, one per warp, holds in shared memory: Blocks blocks of each of so
/// many sequences that there are eight. With 16 channels it reads whole sectors of 32 bytes. Long: sequences are
/// longer.
template <int Group, int Blocks, bool Long>
struct CorrelationMemory {
  using C = Correlation;
  static constexpr int span = C::block * Blocks;  ///< positions of a sequence
  static constexpr int sequences = C::blocks / Blocks;
  static constexpr int pieces = Group / channels;     ///< of 16 bytes in a row
  static constexpr int words = (C::lead + span) / 2;  ///< of a sequence
  /// Where a block of u begins, behind the lead of its sequence.
  static __device__ constexpr int word(int block) {
    return block / Blocks * words + (C::lead + block % Blocks * C::block) / 2;
  }
  static constexpr int copy = sequences * words + 8;    ///< the second copy in other banks than the first
  static constexpr int halves = C::positions / 2 + 64;  ///< D looks beyond the last block: at what follows, or at zeros
  static constexpr int sums_stride = span / 4 * 5 + 1;

  struct Channel {
    // Of the outputs: every other 8 positions together, so that the columns of D are side by side in memory.
    BFloat16 gradients[2][halves + 32 / pieces];
    std::uint32_t values[2][copy];  // of the inputs: word w has positions 2 w and 2 w + 1, or else 2 w - 1 and 2 w
  };
  /// The channels of a piece are written in one instruction with those of the other piece, which are in other banks.
  struct Piece {
    Channel channel[channels];
    std::uint32_t apart[16];
  };
  union {
    struct {
      Piece piece[2][pieces];     // what is computed and what comes next
      Row before[Group][pieces];  // of u, the row before those that a warp moves
    };
    float sums[Group][sums_stride];
  };

  __device__ Channel& channel(int buffer, int c) { return piece[buffer][c / channels].channel[c % channels]; }
  /// Where the sum of a lag is: those of a product in different banks.
  static __device__ int sum_place(int lag) { return lag + lag / 32 * 8; }
};

/// partial[share, lag, c] = the sum over a share of the sequences, for the 128 Blocks lags that a thread block has.
/// While a warp computes, the next positions arrive, dy's before u's: there are no registers for both.
/// Grid: (channels / Group, groups of lags, shares).
template <int Group, int Blocks, bool Long>
__global__ void __launch_bounds__(32 * Group, Correlation::multiprocessor_warps / Group)
    correlate(const BFloat16* dy, std::size_t dy_stride, const BFloat16* u, std::size_t u_stride, float* partial,
              int batch, int length) {
  using C = Correlation;
  using M = CorrelationMemory<Group, Blocks, Long>;
  extern __shared__ float4 dynamic_memory[];
  M& memory = *reinterpret_cast<M*>(dynamic_memory);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_lag = Long ? static_cast<int>(blockIdx.y) * M::span : 0;
  const int total_channels = static_cast<int>(gridDim.x) * Group;
  const int first_channel = static_cast<int>(blockIdx.x) * Group;

  // A thread moves 8 channels of 4 positions.
  const int piece = lane % M::pieces;
  const int moved = warp * (C::block / M::pieces) + lane / M::pieces * C::rows;
  dy += first_channel + channels * piece;
  u += first_channel + channels * piece;
  struct Rows {
    Row row[C::rows];
  };
  const auto fetch = [&](const BFloat16* from, std::size_t stride, int sequence, int t) {
    Rows rows;
    from += (static_cast<std::size_t>(sequence) * length + t) * stride;
#pragma unroll
    for (int k = 0; k < C::rows; ++k)
      rows.row[k] = read_row(from + k * stride, sequence < batch && t + k >= 0 && t + k < length);
    return rows;
  };
  using Pair = Chunk<std::uint32_t, 2>;
  const auto keep_gradients = [&](int buffer, const Rows& r, int position) {
#pragma unroll
    for (int c = 0; c < channels; ++c)
      *reinterpret_cast<Pair*>(memory.piece[buffer][piece].channel[c].gradients[position / 8 % 2] + position / 16 * 8 +
                               position % 8) = {{neighbours(r.row[0], r.row[1], c), neighbours(r.row[2], r.row[3], c)}};
  };
  const auto keep_values = [&](int buffer, const Rows& r, int first_word, bool here) {
    Row last;
#pragma unroll
    for (int k = 0; k < 4; ++k) last.value[k] = __shfl_up_sync(0xffffffffu, r.row[C::rows - 1].value[k], M::pieces);
    wait_for_copies<0>();
    if (lane < M::pieces) last = memory.before[warp][piece];
    if (!here) return;
#pragma unroll
    for (int c = 0; c < channels; ++c) {
      auto& values = memory.piece[buffer][piece].channel[c].values;
      *reinterpret_cast<Pair*>(values[0] +
                               first_word) = {{neighbours(r.row[0], r.row[1], c), neighbours(r.row[2], r.row[3], c)}};
      *reinterpret_cast<Pair*>(values[1] +
                               first_word) = {{neighbours(last, r.row[0], c), neighbours(r.row[1], r.row[2], c)}};
    }
  };

  // The first positions of what is in shared memory at once.
  struct Place {
    int sequence;
    int u;
    int dy;
  };
  const int step = static_cast<int>(gridDim.z) * M::sequences;
  const auto advance = [&](Place& p) {
    if constexpr (Long) {
      p.dy += M::span;
      if (p.dy - p.u == first_lag + M::span && p.dy < length) return;  // the larger lags of these inputs
      p.u += M::span;
      p.dy = p.u + first_lag;
      if (p.dy < length) return;
    }
    p = {p.sequence + step, 0, first_lag};
  };
  const int moved_sequence = moved / M::span;
  const int moved_position = moved % M::span;
  const auto fetch_gradients = [&](const Place& p) {
    return fetch(dy, dy_stride, p.sequence + moved_sequence, p.dy + moved_position);
  };
  const auto fetch_values = [&](const Place& p) {
    const int sequence = p.sequence + moved_sequence;
    const int t = p.u + moved_position;
    if (lane < M::pieces) {  // a copy, since it would take registers of all lanes
      const bool here = sequence < batch && t > 0 && t <= length;
      const std::size_t row = here ? static_cast<std::size_t>(sequence) * length + t - 1 : 0;
      copy_or_clear_async(&memory.before[warp][piece], u + row * u_stride, here);
    }
    commit_copies();
    return fetch(u, u_stride, sequence, t);
  };
  const int moved_word = moved_sequence * M::words + (C::lead + moved_position) / 2;
  const auto keep_ends = [&](int buffer, const Place& p) {  // of long sequences; rare enough to be waited for
    if constexpr (Long) {
      if (moved < C::block)
        keep_gradients(buffer, fetch(dy, dy_stride, p.sequence, p.dy + M::span + moved), M::span + moved);
      if (warp == 0)
        keep_values(buffer, fetch(u, u_stride, p.sequence, p.u - C::lead + moved), moved / 2, moved < C::lead);
    }
  };

  // What is zero stays so.
  if constexpr (!Long) {
    for (int buffer = 0; buffer < 2; ++buffer) {
      auto& own = memory.channel(buffer, warp);
      for (int k = 0; k < 2; ++k) reinterpret_cast<std::uint32_t*>(own.gradients[k] + C::positions / 2)[lane] = 0;
      for (int i = lane; i < 2 * M::sequences * C::lead / 2; i += 32)
        own.values[i / (M::sequences * C::lead / 2)][i / 8 % M::sequences * M::words + i % 8] = 0;
    }
  }
  Place at{static_cast<int>(blockIdx.z) * M::sequences, 0, first_lag};
  int buffer = 0;
  keep_gradients(buffer, fetch_gradients(at), moved);
  keep_values(buffer, fetch_values(at), moved_word, true);
  keep_ends(buffer, at);
  __syncthreads();

  tensor::Sums sum[Blocks];
  while (at.sequence < batch) {
    const Place now = at;
    advance(at);
    const bool more = at.sequence < batch;
    const int blocks = min(Blocks, (length - now.dy + C::block - 1) / C::block);  // of dy that are not all zeros
    const bool larger = Long && now.dy - now.u > first_lag;
    const auto& own = memory.channel(buffer, warp);
    // Row r = lane / 4 of U, elements k = 2 (lane mod 4) and the next: from one copy for even r, the other for odd r.
    const std::uint32_t* values = own.values[lane / 4 % 2] + lane % 4 - lane / 8;
    // Column d = lane mod 8 of D, elements 0 to 7 or 8 to 15, of the first or second of two blocks.
    const BFloat16* gradients = own.gradients[lane / 8 % 2] + lane % 8 * 8 + lane / 16 * (C::block / 2);

    // Columns of the last block that are beyond it are zeros where another sequence follows.
    const BFloat16* beyond = own.gradients[lane / 8 % 2] + lane % 8 * 8 + (C::positions - C::block) / 2;
    Rows arriving;
    tensor::Left<16> left[C::blocks];  // its block above the diagonal is below it in the next step
#pragma unroll
    for (int i = 0; i < C::blocks; ++i) left[i].part[2] = values[M::word(i) - 4];
#pragma unroll 1
    for (int p = 0; p < C::block; p += 16) {
      if (more && p == 0) arriving = fetch_gradients(at);
      if (more && p == 48) keep_gradients(1 - buffer, arriving, moved);
      if (more && p == 64) arriving = fetch_values(at);
      if (more && p == 112) {
        keep_values(1 - buffer, arriving, moved_word, true);
        keep_ends(1 - buffer, at);
      }
#pragma unroll
      for (int i = 0; i < C::blocks; ++i) {
        const std::uint32_t diagonal = values[M::word(i) + p / 2];
        const std::uint32_t above = values[M::word(i) + p / 2 + 4];
        left[i] = {{diagonal, left[i].part[2], above, diagonal}};
      }
#pragma unroll
      for (int pair = 0; pair < C::blocks; pair += 2) {
        const BFloat16* from = gradients + pair * (C::block / 2) + p / 2;
        if constexpr (Blocks < C::blocks)
          if ((pair + 2) % Blocks == 0 && (Blocks == 1 || lane >= 16) && p + lane % 8 * 16 >= C::block)
            from = beyond + p / 2;
        std::uint32_t matrix[4];
        tensor::load_matrices<false>(from, matrix);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int m = (pair + k) % Blocks;
          const int first = pair + k - m;  // block of the sequence
          const tensor::Right<16> right{{matrix[2 * k], matrix[2 * k + 1]}};
          if (Blocks > 2 && m >= blocks) continue;
          if (!larger)
#pragma unroll
            for (int i = 0; i <= m; ++i) tensor::multiply_add(sum[m - i], left[first + i], right);
          else
#pragma unroll
            for (int i = m + 1; i < Blocks; ++i) tensor::multiply_add(sum[Blocks + m - i], left[first + i], right);
        }
      }
    }
    buffer = 1 - buffer;
    __syncthreads();
  }

#pragma unroll
  for (int g = 0; g < Blocks; ++g)
#pragma unroll
    for (int k = 0; k < 4; ++k)
      memory.sums[warp][M::sum_place(C::block * g + (lane % 4 * 2 + k % 2) * 16 + k / 2 * 8 + lane / 4)] =
          sum[g].value[k];
  __syncthreads();
  const int channel = static_cast<int>(threadIdx.x) % Group;
  partial += static_cast<std::size_t>(blockIdx.z) * length * total_channels + first_channel + channel;
  for (int lag = static_cast<int>(threadIdx.x) / Group; lag < M::span && first_lag + lag < length; lag += 32)
    partial[static_cast<std::size_t>(first_lag + lag) * total_channels] = memory.sums[channel][M::sum_place(lag)];
}

/// True if a thread block has enough shared memory.
inline bool correlation_fits() { return sizeof(CorrelationMemory<8, 1, false>) <= most_shared_memory(); }

/// How the work is spread: thread blocks along the lags and along the sequences, as many as run at once, or more where
/// they have different lags and so different amounts of work.
struct CorrelationGrid {
  int lag_groups;
  Index shares;
  int group;   ///< channels of a thread block
  int blocks;  ///< of a sequence in shared memory

  CorrelationGrid(const Queue& queue, int total_channels, const Shape& shape) {
    using C = Correlation;
    const bool whole_sectors =
        total_channels % 16 == 0 && sizeof(CorrelationMemory<16, 1, false>) <= most_shared_memory();
    group = whole_sectors ? 16 : 8;
    blocks = shape.length <= C::block ? 1 : shape.length <= 2 * C::block ? 2 : shape.length <= 4 * C::block ? 4 : 8;
    lag_groups = static_cast<int>((shape.length + C::positions - 1) / C::positions);
    const Index most = Index{queue.multiprocessors()} * C::multiprocessor_warps / group * (lag_groups > 1 ? 4 : 1);
    const Index sequences = C::blocks / blocks;
    shares = std::clamp<Index>(most / (Index{total_channels / group} * lag_groups), 1,
                               (shape.batch + sequences - 1) / sequences);
  }
};

template <int Group>
void launch_correlate(Queue& queue, View<const BFloat16> dy, View<const BFloat16> u, float* partial,
                      const CorrelationGrid& spread, int total_channels, const Shape& shape) {
  const auto launch = [&]<int Blocks, bool Long>(std::integral_constant<int, Blocks>, std::bool_constant<Long>) {
    const dim3 grid(static_cast<unsigned>(total_channels / Group), static_cast<unsigned>(spread.lag_groups),
                    static_cast<unsigned>(spread.shares));
    queue.launch("the filter's gradient of a long convolution", correlate<Group, Blocks, Long>, grid, dim3(32 * Group),
                 sizeof(CorrelationMemory<Group, Blocks, Long>), dy.data, dy.stride, u.data, u.stride, partial,
                 shape.batch, shape.length);
  };
  if (spread.lag_groups > 1) return launch(std::integral_constant<int, 8>{}, std::true_type{});
  if (spread.blocks == 1) return launch(std::integral_constant<int, 1>{}, std::false_type{});
  if (spread.blocks == 2) return launch(std::integral_constant<int, 2>{}, std::false_type{});
  if (spread.blocks == 4) return launch(std::integral_constant<int, 4>{}, std::false_type{});
  launch(std::integral_constant<int, 8>{}, std::false_type{});
}

/// Partial sums (spread.shares, length, channels) of dh.
template <int Channels>
void launch_correlate(Queue& queue, View<const BFloat16> dy, View<const BFloat16> u, float* partial,
                      const CorrelationGrid& spread, const Shape& shape) {
  if constexpr (Channels % 16 == 0)
    if (spread.group == 16) return launch_correlate<16>(queue, dy, u, partial, spread, Channels, shape);
  launch_correlate<8>(queue, dy, u, partial, spread, Channels, shape);
}

}  // namespace mad::cuda::long_conv_tensor
