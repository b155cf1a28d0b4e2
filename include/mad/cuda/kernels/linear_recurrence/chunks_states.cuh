// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The states of a recurrence at the ends of its chunks, and their gradients, which are the same with time reversed.
/// For a chunk of C tokens with the state S at its start and S' at its end, and their gradients G and G',
///
///     S' = diag(w_1 ... w_C) S + sum_s (w_{s+1} ... w_C k_s)^T v_s
///     G = diag(w_1 ... w_C) G' + sum_t (w_1 ... w_t q_t)^T do_t
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/kernels/linear_recurrence/chunks_layout.cuh>

namespace mad::cuda::recurrence_chunks {

inline constexpr int walkers = 4;              ///< warps of a block, each with a slab of the state
inline constexpr int step_tokens = chunk / 2;  ///< tokens of a step

/// A step's numbers in shared memory.
template <class S>
struct Step {
  Tile<step_tokens, Padded<S>::values> values;
  Tile<step_tokens, slab> keys[walkers];
  Tile<step_tokens, slab> decays[S::decay == Decay::none ? 1 : walkers];
};

template <class S>
constexpr std::size_t states_bytes() {
  return 2 * sizeof(Step<S>);
}

/// Multiplies the keys of a warp's slab by the decays between them and the step's end; with Backwards the queries by
/// those from the step's start to them. Lane l has channel l mod 16 of one half of the tokens. Returns the decay of the
/// whole step.
template <bool Backwards>
__device__ inline float weigh(Tile<step_tokens, slab>& keys, Tile<step_tokens, slab>& decays) {
  constexpr int half = step_tokens / 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int channel = lane % slab;
  const int first = lane / slab * half;
  const auto factor = [&](int t) { return tensor::power_of_two(1.44269504f * to_float(decays.row(t)[channel])); };
  float own = 1;
#pragma unroll
  for (int i = 0; i < half; ++i) own *= factor(first + i);
  const float other = __shfl_xor_sync(0xffffffffu, own, slab);
  const bool far = Backwards ? lane >= slab : lane < slab;  // the other half lies between
  float product = far ? other : 1.0f;
#pragma unroll
  for (int i = 0; i < half; ++i) {
    const int t = first + (Backwards ? i : half - 1 - i);
    if (Backwards) product *= factor(t);
    keys.row(t)[channel] = __float2bfloat16_rn(to_float(keys.row(t)[channel]) * product);
    if (!Backwards) product *= factor(t);
  }
  return own * other;
}

/// Writes S' of chunks 0, 1, ... to `states`, or with Backwards G of chunks 1, 2, ..., from behind.
template <class S, bool Backwards>
__device__ void walk(const Operands<S>& o, Step<S> (&steps)[2], BFloat16* states, int head, int sequence, int length) {
  using P = Padded<S>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_slab = static_cast<int>(blockIdx.x) * walkers;
  const int ends = chunks(length) - 1;
  const int count = ends * (chunk / step_tokens);
  constexpr Side key = Backwards ? Side::query : Side::key;
  constexpr Side value = Backwards ? Side::d_output : Side::value;
  constexpr int value_chunk = Backwards ? S::output_chunk : S::value_chunk;
  const Rows keys = rows_of<key, S>(o, sequence, head, length);
  const Rows values = rows_of<value, S>(o, sequence, head, length);
  const Rows decays = decays_of<S>(o, sequence, head, length);
  const auto load = [&](int i) {
    Step<S>& to = steps[i % 2];
    const int first = Backwards ? (ends + 1) * chunk - (i + 1) * step_tokens : i * step_tokens;
    load_rows<value_chunk, S::value, S::value>(to.values, values, first, 0);
    if constexpr (Backwards) load_normaliser<S>(to.values, values, head, first);
#pragma unroll
    for (int w = 0; w < walkers; ++w) {
      const int column = (first_slab + w) * slab;
      load_rows<S::key_chunk, slab, S::key>(to.keys[w], keys, first, column);
      if constexpr (S::decay != Decay::none) load_rows<S::key_chunk, slab, S::key>(to.decays[w], decays, first, column);
    }
  };
  fill_last_columns<S, Backwards>(steps[0].values);
  fill_last_columns<S, Backwards>(steps[1].values);
  __syncthreads();
  load(0);
  commit_copies();
  Square state[P::values / 16];
  const Lane lane;
  for (int i = 0; i < count; ++i) {
    wait_for_copies<0>();
    __syncthreads();
    if (i + 1 < count) load(i + 1);
    commit_copies();
    if (first_slab + warp >= P::slabs) continue;
    Step<S>& now = steps[i % 2];
    if constexpr (S::decay != Decay::none) {
      const float all = weigh<Backwards>(now.keys[warp], now.decays[warp]);
      __syncwarp();
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (e / 2 % 2 == 1) continue;  // rows are values: the decay is the same 8 rows below
        const float decay = __shfl_sync(0xffffffffu, all, lane.column_of(e));
#pragma unroll
        for (int m = 0; m < P::values / 16; ++m) {
          state[m].value[e] *= decay;
          state[m].value[e + 2] *= decay;
        }
      }
    }
#pragma unroll
    for (int t = 0; t < step_tokens; t += 16) {
      const Rights right = rights(now.keys[warp], t, 0);
#pragma unroll
      for (int m = 0; m < P::values / 16; ++m) multiply_add(state[m], transposed_left(now.values, t, m * 16), right);
    }
    if ((i + 1) % (chunk / step_tokens) != 0) continue;
    const int end = Backwards ? ends - 1 - i / (chunk / step_tokens) : i / (chunk / step_tokens);
    BFloat16* to = states + ((static_cast<std::size_t>(sequence) * S::heads + head) * ends + end) * P::state_numbers +
                   (first_slab + warp) * P::slab_numbers;
#pragma unroll
    for (int m = 0; m < P::values / 16; ++m) {
      const Left<16> a = rounded(state[m]);
#pragma unroll
      for (int p = 0; p < 4; ++p)
        *reinterpret_cast<std::uint32_t*>(to + (m * 16 + lane.row_of(2 * p)) * slab + lane.column_of(2 * p)) =
            a.part[p];
    }
  }
  wait_for_copies<0>();
}

/// Grid: (blocks of slabs, heads times 1, or 2 with the gradients of states, batch). States are (sequence, head, end,
/// slab, value, channel).
template <class S, bool WithGradients>
__global__ void __launch_bounds__(threads, 4)
    walk_states(Operands<S> o, BFloat16* states, BFloat16* gradients, int length) {
  extern __shared__ float4 dynamic_memory[];
  auto& steps = *reinterpret_cast<Step<S>(*)[2]>(dynamic_memory);
  const int head = static_cast<int>(blockIdx.y) % S::heads;
  const int sequence = static_cast<int>(blockIdx.z);
  if (!WithGradients || blockIdx.y < S::heads)
    walk<S, false>(o, steps, states, head, sequence, length);
  else
    walk<S, true>(o, steps, gradients, head, sequence, length);
}

/// A sequence of one chunk needs no states.
template <class S>
dim3 states_grid(const Shape& shape, int directions) {
  if (chunks(shape.length) == 1) return dim3(0);
  return dim3((Padded<S>::slabs + walkers - 1) / walkers, static_cast<unsigned>(S::heads * directions),
              static_cast<unsigned>(shape.batch));
}
template <class S>
BFloat16* take_states(Queue& queue, const Shape& shape) {
  return queue.take<BFloat16>(shape.batch * S::heads * (chunks(shape.length) - 1) * Padded<S>::state_numbers);
}

}  // namespace mad::cuda::recurrence_chunks
