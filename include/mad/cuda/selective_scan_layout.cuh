// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How a selective scan is spread over threads.
///
/// A warp takes 8 tokens of a group of channels, a block up to 16 warps and so 128 tokens, all at once: every warp
/// walks its tokens from a state of 0; what it hands on, S -> decay S + state for each channel and state, goes through
/// shared memory, where the warps' maps are chained; then it adds what becomes of the state that it is handed. The
/// decays stay in registers in between, as they are what costs: one exponential per token, channel and state.
///
/// A block takes several groups one after the other (the next one's numbers are on their way meanwhile), and longer
/// sequences tile by tile. Tokens behind the end have a time step of 0: they leave a state as it is.
#pragma once

#include <mad/cuda/async_copy.cuh>
#include <mad/cuda/context.hpp>
#include <mad/cuda/tensor_core.cuh>

#include <algorithm>

namespace mad::cuda::scan_detail {

inline constexpr int warp_tokens = 8;
inline constexpr int most_warps = 16;
inline constexpr int most_tokens = most_warps * warp_tokens;  ///< of a tile
inline constexpr int most_groups = 8;                         ///< of a block
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

template <class T>
struct Operands {
  const T* u;
  const T* dt;
  const float* a;
  const T* b;
  const T* c;
  const float* skip;
  unsigned u_stride, dt_stride, b_stride, c_stride;
};

/// How a call is cut into blocks.
struct Spread {
  int warps;   ///< of a block
  int tiles;   ///< of a sequence
  int share;   ///< groups of a block
  int blocks;  ///< along the channels

  /// \p wanted blocks fill the device.
  static Spread of(const Shape& shape, int groups, int wanted) {
    const int length = static_cast<int>(shape.length);
    Spread s{};
    s.warps = std::min((length + warp_tokens - 1) / warp_tokens, most_warps);
    s.tiles = (length + s.warps * warp_tokens - 1) / (s.warps * warp_tokens);
    const int least = (groups + most_groups - 1) / most_groups;
    s.blocks = std::clamp(wanted / static_cast<int>(std::max<Index>(shape.batch, 1)), least, groups);
    s.share = (groups + s.blocks - 1) / s.blocks;
    s.blocks = (groups + s.share - 1) / s.share;
    return s;
  }
  dim3 grid(const Shape& shape) const {
    return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.batch));
  }
  dim3 block() const { return dim3(static_cast<unsigned>(warps * 32)); }
};

/// What a thread is in charge of.
template <class G>
struct Place {
  int warp = static_cast<int>(threadIdx.x) / 32;
  int lane = static_cast<int>(threadIdx.x) % 32;
  int part = lane / G::channels;    ///< states 4 part to 4 part + 3
  int column = lane % G::channels;  ///< channel in the group

  /// State i of the lane's.
  __device__ int state(int i) const { return part * lane_states + i; }
};

/// What a block is in charge of: a share of the groups of one sequence, tile by tile.
template <class G>
struct BlockPlace {
  int warps = static_cast<int>(blockDim.x) / 32;
  int tile_tokens = warps * warp_tokens;
  int tiles;
  int first_group;
  int groups;
  unsigned sequence;  ///< its first token

  __device__ BlockPlace(int length, int share)
      : tiles((length + tile_tokens - 1) / tile_tokens),
        first_group(static_cast<int>(blockIdx.x) * share),
        groups(min(share, G::count - first_group)),
        sequence(blockIdx.y * length) {}
};

/// What the channels of a block's groups have for all tokens: the exponents log2(e) A of a lane's states, and D; 0
/// where there is no such state or channel.
template <class G>
struct Constants {
  float exponent[most_groups][lane_states][32];
  float skip[most_groups][32];

  template <class T>
  __device__ void load(const Operands<T>& o, const Place<G>& at, int first_group, int groups) {
    constexpr float log2_e = 1.44269504f;
    for (int group = at.warp; group < groups; group += static_cast<int>(blockDim.x) / 32) {
      const int channel = (first_group + group) * G::channels + at.column;
#pragma unroll
      for (int i = 0; i < lane_states; ++i) {
        const bool here = channel < G::all_channels && at.state(i) < G::states;
        exponent[group][i][at.lane] = here ? log2_e * o.a[channel * G::states + at.state(i)] : 0.0f;
      }
      skip[group][at.lane] = channel < G::all_channels ? o.skip[channel] : 0.0f;
    }
  }
};

/// The sum over the lanes that share a channel, in all of them.
template <class G>
__device__ inline float sum_of_parts(float x) {
#pragma unroll
  for (int offset = G::channels; offset < 32; offset *= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

/// A warp's rows of one operand in shared memory: its tokens by the channels of a group.
template <class G, class T>
struct Rows {
  T value[warp_tokens][G::channels];

  /// Reads the rows of tokens `first` on, from column `column` on, V numbers at a time; zeros behind the last.
  template <int V>
  __device__ void fetch(const T* from, unsigned stride, unsigned sequence, int first, int length, int column) {
    for_pieces<V>([&](int t, int c) {
      if (first + t < length && column + c < G::all_channels) {
        copy_async<V>(&value[t][c], from + std::size_t{sequence + first + t} * stride + (column + c));
      } else {
        constexpr float zeros[V]{};
        mad::cuda::store(&value[t][c], zeros);
      }
    });
  }
  /// Writes them.
  template <int V>
  __device__ void store(T* to, unsigned stride, unsigned sequence, int first, int length, int column) const {
    using Piece = Chunk<T, V>;
    for_pieces<V>([&](int t, int c) {
      if (first + t < length && column + c < G::all_channels)
        *reinterpret_cast<Piece*>(to + std::size_t{sequence + first + t} * stride + (column + c)) =
            *reinterpret_cast<const Piece*>(&value[t][c]);
    });
  }

private:
  template <int V, class F>
  __device__ static void for_pieces(const F& f) {
    constexpr int per_row = G::channels / V;
    constexpr int pieces = warp_tokens * per_row;
#pragma unroll
    for (int begin = 0; begin < pieces; begin += 32) {
      const int i = begin + static_cast<int>(threadIdx.x) % 32;
      if (pieces % 32 == 0 || i < pieces) f(i / per_row, i % per_row * V);
    }
  }
};

/// B and C of a tile's tokens.
template <class G>
struct Projections {
  struct Token {
    float b[G::padded_states], c[G::padded_states];
  };
  Token token[most_tokens];

  template <class T>
  __device__ void load(const Operands<T>& o, unsigned sequence, int first, int length) {
    constexpr int numbers = 2 * G::padded_states;
    float* to = token[0].b;
    const int tokens = static_cast<int>(blockDim.x) / 32 * warp_tokens;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < tokens * numbers; i += static_cast<int>(blockDim.x)) {
      const int t = first + i / numbers;
      const int n = i % G::padded_states;
      const bool is_c = i % numbers >= G::padded_states;
      float x = 0;
      if (t < length && n < G::states)
        x = to_float(is_c ? o.c[std::size_t{sequence + t} * o.c_stride + n]
                          : o.b[std::size_t{sequence + t} * o.b_stride + n]);
      to[i] = x;
    }
  }
  __device__ void read_b(int t, int part, float (&b)[lane_states]) const {
    mad::cuda::load(token[t].b + part * lane_states, b);
  }
  __device__ void read_c(int t, int part, float (&c)[lane_states]) const {
    mad::cuda::load(token[t].c + part * lane_states, c);
  }
};

/// What warps hand on for each of a lane's states: values, and times dt, which stand for decays exp(A dt).
struct HandedOn {
  float states[most_warps][lane_states][32];
  float time[most_warps][32];
};

/// Chains the maps x -> decay x + value of all warps for one state of a lane: each warp's value becomes the x it is
/// handed. Returns what the last one hands on.
template <bool Backwards>
__device__ inline float chain(float (&value)[most_warps][lane_states][32], const float (&time)[most_warps][32],
                              float exponent, int state, int lane, int warps, float x) {
  constexpr int at_once = 8;
  constexpr int step = Backwards ? -1 : 1;
  for (int first = 0; first < warps; first += at_once) {
    const int warp = Backwards ? warps - 1 - first : first;
    float* own = &value[warp][state][lane];
    const float* own_time = &time[warp][lane];
    float decay[at_once], next[at_once];
#pragma unroll
    for (int j = 0; j < at_once; ++j) {
      if (first + j >= warps) continue;
      decay[j] = tensor::power_of_two(own_time[j * step * 32] * exponent);
      next[j] = own[j * step * lane_states * 32];
    }
#pragma unroll
    for (int j = 0; j < at_once; ++j) {
      if (first + j >= warps) continue;
      own[j * step * lane_states * 32] = x;
      x = decay[j] * x + next[j];
    }
  }
  return x;
}

/// Walks a warp's tokens from a state of 0: keeps their decays, leaves what the warp hands on, and calls
/// `each(token, u, states)`.
template <class G, class T, class Each>
__device__ inline void walk(const Place<G>& at, const Rows<G, T>& u, const Rows<G, T>& dt, const Projections<G>& bc,
                            const float (&exponent)[lane_states], float (&decay)[warp_tokens][lane_states],
                            HandedOn& to, const Each& each) {
  float state[lane_states]{};
  float time = 0;
#pragma unroll
  for (int t = 0; t < warp_tokens; ++t) {
    const float step = to_float(dt.value[t][at.column]);
    const float in = to_float(u.value[t][at.column]);
    const float input = step * in;
    time += step;
    float b[lane_states];
    bc.read_b(at.warp * warp_tokens + t, at.part, b);
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      decay[t][i] = tensor::power_of_two(step * exponent[i]);
      state[i] = decay[t][i] * state[i] + input * b[i];
    }
    each(t, in, state);
  }
#pragma unroll
  for (int i = 0; i < lane_states; ++i) to.states[at.warp][i][at.lane] = state[i];
  to.time[at.warp][at.lane] = time;
}

/// Bytes that the staged rows of a block may take decide whether the next group's are fetched while one is at work.
template <class T>
inline constexpr int stages = sizeof(T) == sizeof(BFloat16) ? 2 : 1;

}  // namespace mad::cuda::scan_detail
