// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan forwards: its output, or the states between the tiles of long sequences.
#pragma once

#include <mad/cuda/selective_scan_layout.cuh>

namespace mad::cuda::scan_detail {

template <class G, class T>
struct alignas(16) ForwardMemory {
  Projections<G> bc;
  Rows<G, T> u[stages<T>][most_warps];  ///< in the end y
  Rows<G, T> dt[stages<T>][most_warps];
  Constants<G> constants;
  HandedOn on;
  float entry[most_groups][lane_states][32];  ///< the states before the tile
};

/// Where the states before a tile lie: (batch, tiles - 1, groups, states of a lane, lanes); before the first they are
/// 0.
template <class G>
__device__ inline float* entry_of(float* entries, int tiles, int tile, int group) {
  return entries + ((std::size_t{blockIdx.y} * (tiles - 1) + tile - 1) * G::count + group) * lane_states * 32;
}

/// y_t = S_t.C_t + D u_t with S_t = exp(dt_t A) S_{t-1} + dt_t B_t u_t; with Output false the states before all tiles
/// but the first. V numbers are read and written at once. Grid: (shares of the groups, batch).
template <class G, bool Output, int V, class T>
__global__ void __launch_bounds__(most_warps * 32, 2)
    forward(Operands<T> o, T* y, unsigned y_stride, float* entries, int length, int share) {
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<ForwardMemory<G, T>*>(dynamic_memory);
  const Place<G> at;
  const BlockPlace<G> block(length, share);
  const int own = at.warp * warp_tokens;
  const int end = Output ? block.tiles : block.tiles - 1;

  int stage = 0;
  const auto fetch = [&](int into, int tile, int group) {
    if (group == block.groups) group = 0, ++tile;
    if (tile < end) {
      const int first = tile * block.tile_tokens + own;
      const int column = (block.first_group + group) * G::channels;
      memory.u[into][at.warp].template fetch<V>(o.u, o.u_stride, block.sequence, first, length, column);
      memory.dt[into][at.warp].template fetch<V>(o.dt, o.dt_stride, block.sequence, first, length, column);
    }
    commit_copies();
  };
  fetch(0, 0, 0);
  memory.constants.load(o, at, block.first_group, block.groups);
  for (int tile = 0; tile < end; ++tile) {
    const int first = tile * block.tile_tokens;
    if (tile > 0) __syncthreads();
    memory.bc.load(o, block.sequence, first, length);
    __syncthreads();
    for (int group = 0; group < block.groups; ++group) {
      if constexpr (stages<T> == 2) fetch(1 - stage, tile, group + 1);
      wait_for_copies<stages<T> - 1>();
      __syncwarp();
      Rows<G, T>& u = memory.u[stage][at.warp];
      float exponent[lane_states];
#pragma unroll
      for (int i = 0; i < lane_states; ++i) exponent[i] = memory.constants.exponent[group][i][at.lane];
      const float skip = at.part == 0 ? memory.constants.skip[group][at.lane] : 0.0f;
      float decay[warp_tokens][lane_states];
      float out[warp_tokens];
      walk(at, u, memory.dt[stage][at.warp], memory.bc, exponent, decay, memory.on,
           [&](int t, float in, const float(&state)[lane_states]) {
             if constexpr (!Output) return;
             float c[lane_states];
             memory.bc.read_c(own + t, at.part, c);
             out[t] = skip * in;
#pragma unroll
             for (int i = 0; i < lane_states; ++i) out[t] += state[i] * c[i];
           });
      __syncthreads();
      for (int i = at.warp; i < lane_states; i += block.warps) {
        float& entry = memory.entry[group][i][at.lane];
        const float before = tile == 0 ? 0.0f : entry;
        entry = chain<false>(memory.on.states, memory.on.time, memory.constants.exponent[group][i][at.lane], i, at.lane,
                             block.warps, before);
        if constexpr (!Output)
          entry_of<G>(entries, block.tiles, tile + 1, block.first_group + group)[i * 32 + at.lane] = entry;
      }
      __syncthreads();
      if constexpr (Output) {
        float state[lane_states];  // what becomes of the one handed to the warp
#pragma unroll
        for (int i = 0; i < lane_states; ++i) state[i] = memory.on.states[at.warp][i][at.lane];
#pragma unroll
        for (int t = 0; t < warp_tokens; ++t) {
          float c[lane_states];
          memory.bc.read_c(own + t, at.part, c);
#pragma unroll
          for (int i = 0; i < lane_states; ++i) {
            state[i] *= decay[t][i];
            out[t] += state[i] * c[i];
          }
          out[t] = sum_of_parts<G>(out[t]);
          if (at.part == 0) u.value[t][at.column] = from_float<T>(out[t]);
        }
        __syncwarp();
        u.template store<V>(y, y_stride, block.sequence, first + own, length,
                            (block.first_group + group) * G::channels);
      }
      __syncwarp();  // all lanes are done with this stage
      if constexpr (stages<T> == 1)
        fetch(0, tile, group + 1);
      else
        stage = 1 - stage;
    }
  }
}

template <class G, bool Output, int V, class T>
void launch_forward(Queue& queue, const Shape& shape, const Operands<T>& o, View<T> y, float* entries) {
  const Spread spread = Spread::of(shape, G::count, 2 * queue.multiprocessors());
  queue.launch("a selective scan", forward<G, Output, V, T>, spread.grid(shape), spread.block(),
               sizeof(ForwardMemory<G, T>), o, y.data, y.stride, entries, shape.length, spread.share);
}

}  // namespace mad::cuda::scan_detail
