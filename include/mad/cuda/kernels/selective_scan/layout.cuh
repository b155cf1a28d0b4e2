// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How a selective scan is spread over threads.
///
/// A lane has a channel, or four of its states, and so a warp a group of channels. A sequence is cut into segments of 8
/// tokens, which two warps of a group take in turn: while one goes on with the states that the other has handed to it,
/// that one computes of its next segment what does not depend on states, such as decays. Rows arrive in shared memory a
/// segment ahead. Tokens behind the end of a sequence are read as zeros, and change nothing: without a time step their
/// decays are 1, and they add nothing.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/gates.cuh>
#include <mad/ops/selective_scan.hpp>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace mad::cuda::scan_detail {

inline constexpr int segment_tokens = ops::selective_scan::segment;
inline constexpr int most_groups = 8;  ///< of a block
inline constexpr int lane_states = 4;

/// A group of channels: a lane has four states of one channel, `parts` lanes share a channel with more.
template <int Channels, int States>
struct Group {
  static constexpr int all_channels = Channels, states = States;
  static constexpr int parts = States <= 4 ? 1 : States <= 8 ? 2 : States <= 16 ? 4 : 8;
  static_assert(States <= parts * lane_states, "mad: the device's selective scan takes at most 32 states per channel");
  static constexpr int channels = 32 / parts;
  static constexpr int count = (Channels + channels - 1) / channels;
  static constexpr int padded_states = parts * lane_states;
};

/// Rows of tokens.
template <class T>
struct TokenRows {
  T* data;
  unsigned stride;

  /// Those of the block's sequence, whose numbers an unsigned offset counts.
  __device__ TokenRows of_sequence(int length) const {
    return {data + std::size_t{blockIdx.y} * static_cast<unsigned>(length) * stride, stride};
  }
  /// Keeps the compiler from working out anew, wherever they are used, where these rows begin: that costs less time but
  /// more registers.
  __device__ TokenRows held() const {
    T* first = data;
    asm("" : "+l"(first));
    __builtin_assume(__isGlobal(first));
    return {first, stride};
  }
  __device__ T* at(int token, int column) const {
    return data + (static_cast<unsigned>(token) * stride + static_cast<unsigned>(column));
  }
};

template <class T>
struct Operands {
  TokenRows<const T> u, dt, gate, bc;
  const float* a;
  const float* skip;
};

/// How the groups of a sequence are spread over blocks.
struct Spread {
  int groups;  ///< of a block
  int blocks;  ///< along the channels

  /// For groups of so many bytes of shared memory.
  static Spread of(const Shape& shape, int groups, std::size_t bytes, const Queue& queue) {
    const int most = std::min(most_groups, std::max(1, queue.shared_memory_per_block() / static_cast<int>(bytes)));
    const int multiprocessors = queue.multiprocessors();
    const int least = (groups + most - 1) / most;
    const int wanted = multiprocessors / static_cast<int>(std::clamp<Index>(shape.batch, 1, multiprocessors));
    Spread s{};
    s.blocks = std::clamp(wanted, least, groups);
    s.groups = (groups + s.blocks - 1) / s.blocks;
    s.blocks = (groups + s.groups - 1) / s.groups;
    return s;
  }
  dim3 grid(const Shape& shape) const {
    return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.batch));
  }
  dim3 block() const { return dim3(static_cast<unsigned>(groups * 64)); }
};

/// What a thread is in charge of. Behind the last channel there are none.
template <class G>
struct Place {
  int groups = static_cast<int>(blockDim.x) / 64;
  int group = static_cast<int>(threadIdx.x) / 32 % groups;  ///< in the block
  int turn = static_cast<int>(threadIdx.x) / 32 / groups;   ///< the warp has every other segment from this one on
  int lane = static_cast<int>(threadIdx.x) % 32;
  int part = lane / G::channels;    ///< states 4 part to 4 part + 3
  int column = lane % G::channels;  ///< channel in the group
  int first_column = (static_cast<int>(blockIdx.x) * groups + group) * G::channels;
  int channel = first_column + column;
  bool has_channel = channel < G::all_channels;
  int length;
  int segments;

  __device__ explicit Place(int length) : length(length), segments((length + segment_tokens - 1) / segment_tokens) {}

  /// State i of the lane's.
  __device__ int state(int i) const { return part * lane_states + i; }
  template <class T>
  __device__ void load_exponents(const Operands<T>& o, float (&exponent)[lane_states]) const {
    constexpr float log2_e = 1.44269504f;
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      const bool here = has_channel && state(i) < G::states;
      exponent[i] = here ? log2_e * o.a[channel * G::states + state(i)] : 0.0f;
    }
  }
  /// The kept states before a segment that is not the first: those of the lane are neighbours. \p kept is that of the
  /// sequence.
  template <class F>
  __device__ F* kept_states(F* kept, int segment) const {
    return kept + (static_cast<unsigned>((segment - 1) * (G::all_channels * G::states)) +
                   static_cast<unsigned>(channel * G::states + state(0)));
  }
};

/// The sum over the lanes that share a channel, in all of them.
template <class G>
__device__ inline float sum_of_parts(float x) {
#pragma unroll
  for (int offset = G::channels; offset < 32; offset *= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

/// Starts to copy V numbers to shared memory, or puts zeros there.
template <int V, class T>
__device__ inline void fetch_piece(T* to, const T* from, bool here) {
  if constexpr (V * sizeof(T) == 16) {
    copy_or_clear_async(to, from, here);
  } else if (here) {
    copy_async<V>(to, from);
  } else {
    constexpr float zeros[V]{};
    mad::cuda::store(to, zeros);
  }
}

/// A segment's rows of one operand in shared memory: tokens by the channels of a group.
template <class G, class T>
struct Rows {
  T value[segment_tokens][G::channels];

  /// Reads the rows of tokens `first` on, V numbers at a time; zeros behind the last.
  template <int V>
  __device__ void fetch(const Place<G>& at, const TokenRows<const T>& from, int first) {
    for_pieces<V>(at, [&](int t, int c) {
      const bool here = first + t < at.length && at.first_column + c < G::all_channels;
      fetch_piece<V>(&value[t][c], from.at(here ? first + t : 0, here ? at.first_column + c : 0), here);
    });
  }
  /// Writes them.
  template <int V>
  __device__ void store(const Place<G>& at, const TokenRows<T>& to, int first) const {
    using Piece = Chunk<T, V>;
    for_pieces<V>(at, [&](int t, int c) {
      if (first + t < at.length && at.first_column + c < G::all_channels)
        *reinterpret_cast<Piece*>(to.at(first + t, at.first_column + c)) =
            *reinterpret_cast<const Piece*>(&value[t][c]);
    });
  }

private:
  template <int V, class F>
  __device__ static void for_pieces(const Place<G>& at, const F& f) {
    constexpr int per_row = G::channels / V;
    constexpr int pieces = segment_tokens * per_row;
#pragma unroll
    for (int begin = 0; begin < pieces; begin += 32) {
      const int i = begin + at.lane;
      if (pieces % 32 == 0 || i < pieces) f(i / per_row, i % per_row * V);
    }
  }
};

/// B and C of a segment.
template <class G>
struct Maps {
  static constexpr int numbers = 2 * G::padded_states;  ///< of a token
  float value[segment_tokens][numbers];

  __device__ void read_b(int t, int part, float (&b)[lane_states]) const {
    mad::cuda::load(value[t] + part * lane_states, b);
  }
  __device__ void read_c(int t, int part, float (&c)[lane_states]) const {
    mad::cuda::load(value[t] + G::padded_states + part * lane_states, c);
  }
};

/// Segments of which a warp has the rows in shared memory, or on their way there, within some 110 KB of a block.
template <class T>
inline constexpr int stages = sizeof(T) == sizeof(BFloat16) ? 2 : 1;

/// What the two warps of a group hand to each other, segment after segment: four numbers of each lane.
class Turns {
public:
  /// One thread does this, before the block's first barrier.
  __device__ void start() {
#pragma unroll
    for (std::uint64_t& barrier : given_)
      asm volatile("mbarrier.init.shared.b64 [%0], 32;" : : "r"(address(barrier)) : "memory");
  }
  /// The warp whose turn it is has dealt with segment \p k, counted from the first one that is dealt with. All lanes
  /// arrive: that is quicker than one behind a barrier of the warp.
  __device__ void give(unsigned k, int lane, const float (&x)[lane_states]) {
    store(handed_[lane], x);
    [[maybe_unused]] std::uint64_t state;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(address(given_[k % 2])) : "memory");
  }
  /// Waits for what is given with segment k - 1.
  __device__ void take(unsigned k, int lane, float (&x)[lane_states]) {
    const std::uint32_t barrier = address(given_[(k - 1) % 2]);
    const unsigned parity = (k - 1) / 2 % 2;
    std::uint32_t done;
    do {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
      asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
#else
      asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
#endif
                   : "=r"(done)
                   : "r"(barrier), "r"(parity)
                   : "memory");
    } while (done == 0);
    load(handed_[lane], x);
  }

private:
  static __device__ std::uint32_t address(const std::uint64_t& barrier) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(&barrier));
  }

  alignas(16) float handed_[32][lane_states];
  std::uint64_t given_[2];
};

}  // namespace mad::cuda::scan_detail
