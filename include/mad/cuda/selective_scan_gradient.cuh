// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of the selective scan.
///
///     G_t = dy_t C_t + a_{t+1} G_{t+1},  a_t = exp(dt_t A);  dC_t = dy_t S_t,  dB_t = dt_t u_t G_t,
///     du_t = D dy_t + dt_t (G_t.B_t),  d_dt_t = u_t (G_t.B_t) + sum_n G_t S_{t-1} a_t A,
///     dA = sum_t G_t S_{t-1} a_t dt_t,  dD = sum_t dy_t u_t
///
/// A warp walks its tokens in both directions from 0. Then it adds to the states, which it has kept in registers with
/// the decays, what becomes of those handed to it, and walks back again from the G handed to it. dB and dC are sums
/// over all channels; each lane has a channel, so these are sums over lanes, which the tensor cores do: as products
/// with a matrix of ones, which keep adding up over the block's groups of channels.
#pragma once

#include <mad/cuda/selective_scan_layout.cuh>

namespace mad::cuda::scan_detail {

template <class T>
struct Gradients {
  T* u;
  T* dt;
  T* b;
  T* c;
  unsigned u_stride, dt_stride, b_stride, c_stride;
  float* bc;          ///< (blocks along the channels, tokens, 2 States): parts of dB and dC, if the blocks are several
  float* parameters;  ///< (batch, Channels States + Channels): dA and dD of each sequence
};

inline constexpr int lane_sums = lane_states + 1;  ///< dA of a lane's states, and dD

template <class G, class T>
struct alignas(16) BackwardMemory {
  Projections<G> bc;
  Rows<G, T> u[stages<T>][most_warps];   ///< in the end du
  Rows<G, T> dt[stages<T>][most_warps];  ///< in the end d_dt
  Rows<G, T> dy[stages<T>][most_warps];
  Constants<G> constants;
  HandedOn on;
  float later[most_warps][lane_states][32];   ///< handed on backwards
  float entry[most_groups][lane_states][32];  ///< the states before the tile
  float exit[most_groups][lane_states][32];   ///< a G of the token behind the tile
  float sums[most_warps][lane_sums][32];      ///< of the warps' tokens
  float total[most_groups][lane_sums][32];
};

/// Sums of four numbers of each lane over quads of lanes, added to what is there: as a product with ones in tf32, where
/// an Exact number is the sum of two. `which` of 0 to 3 chooses the lane of the quad that gets the sums, of numbers 0,
/// 2, 1, 3.
template <bool Exact>
__device__ inline void add_over_quads(float (&sum)[4], const float (&x)[4], int which) {
  const int column = static_cast<int>(threadIdx.x) % 32 / 4;
  const std::uint32_t one = 0x3f800000u;
  const bool own = column / 2 == which;
  const std::uint32_t low = own ? (column % 2 == 0 ? one : 0u) : 0u;
  const std::uint32_t high = own ? (column % 2 == 1 ? one : 0u) : 0u;
  const auto add = [&](std::uint32_t x0, std::uint32_t x1, std::uint32_t x2, std::uint32_t x3) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(low), "r"(high));
  };
  const auto upper = [](float y) { return __float_as_uint(y) & 0xffffe000u; };
  if constexpr (Exact) {
    const auto rest = [&](float y) { return __float_as_uint(y - __uint_as_float(upper(y))); };
    add(rest(x[0]), rest(x[1]), rest(x[2]), rest(x[3]));
    add(upper(x[0]), upper(x[1]), upper(x[2]), upper(x[3]));
  } else {
    add(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3]));
  }
}

/// dB and dC of a warp's tokens.
struct ProjectionSums {
  float of_b[warp_tokens / 4][4]{};
  float of_c[warp_tokens / 4][4]{};

  /// Adds what remains up, and writes the rows of the warp's tokens, which begin with `row`.
  template <class G, class T>
  __device__ void store(const Place<G>& at, const Gradients<T>& d, unsigned row, int tokens) {
    finish<G>(of_b);
    finish<G>(of_c);
    constexpr int lanes = G::channels / 4;  // that have the same
    const int own = at.column / 4;
#pragma unroll
    for (int h = 0; h < warp_tokens / 4; ++h) {
      const int t = h * 4 + at.lane % 4;
      if (t >= tokens) continue;
#pragma unroll
      for (int i = 0; i < lane_states; ++i) {
        constexpr int place[4] = {0, 2, 1, 3};
        const int n = at.state(i);
        if (n >= G::states || i % lanes != own) continue;
        const float b = of_b[h][place[i]];
        const float c = of_c[h][place[i]];
        if (gridDim.x == 1) {
          d.b[std::size_t{row + t} * d.b_stride + n] = from_float<T>(b);
          d.c[std::size_t{row + t} * d.c_stride + n] = from_float<T>(c);
        } else {
          d.bc[std::size_t{row + t} * 2 * G::states + n] = b;
          d.bc[std::size_t{row + t} * 2 * G::states + G::states + n] = c;
        }
      }
    }
  }

private:
  template <class G>
  __device__ static void finish(float (&sum)[warp_tokens / 4][4]) {
#pragma unroll
    for (int h = 0; h < warp_tokens / 4; ++h) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int offset = 4; offset < G::channels; offset *= 2)
          sum[h][i] += __shfl_xor_sync(0xffffffffu, sum[h][i], offset);
      }
    }
  }
};

/// Walks a warp's tokens backwards from a G of 0 behind them, and leaves what the warp hands on.
template <class G, class T>
__device__ inline void walk_back(const Place<G>& at, const Rows<G, T>& dy, const Projections<G>& bc,
                                 const float (&decay)[warp_tokens][lane_states],
                                 float (&later)[most_warps][lane_states][32]) {
  float g[lane_states]{};
#pragma unroll
  for (int t = warp_tokens - 1; t >= 0; --t) {
    const float gradient = to_float(dy.value[t][at.column]);
    float c[lane_states];
    bc.read_c(at.warp * warp_tokens + t, at.part, c);
#pragma unroll
    for (int i = 0; i < lane_states; ++i) g[i] = decay[t][i] * (gradient * c[i] + g[i]);
  }
#pragma unroll
  for (int i = 0; i < lane_states; ++i) later[at.warp][i][at.lane] = g[i];
}

/// What a lane carries on its way back over tokens.
struct WayBack {
  float later[lane_states]{};  ///< a_{t+1} G_{t+1}
  float d_a[lane_states]{};
  float d_skip = 0;

  /// Token t of a warp's: its u and dt, which become du and d_dt, and dy.
  template <bool Exact, class G>
  __device__ void step(const Place<G>& at, int t, float& u, float& dt, float dy, const float (&b)[lane_states],
                       const float (&c)[lane_states], const float (&exponent)[lane_states], float skip,
                       const float (&decay)[lane_states], const float (&state)[lane_states],
                       const float (&before)[lane_states], ProjectionSums& sums) {
    const float input = dt * u;
    float d_b[lane_states], d_c[lane_states];
    float from_input = 0;
    float from_decay = 0;
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      const float g = dy * c[i] + later[i];
      d_b[i] = input * g;
      d_c[i] = dy * state[i];
      later[i] = decay[i] * g;
      const float through = later[i] * before[i];
      from_input += g * b[i];
      from_decay += through * exponent[i];
      d_a[i] += through * dt;
    }
    add_over_quads<Exact>(sums.of_b[t / 4], d_b, t % 4);
    add_over_quads<Exact>(sums.of_c[t / 4], d_c, t % 4);
    d_skip += dy * u;
    from_input = sum_of_parts<G>(from_input);
    from_decay = sum_of_parts<G>(from_decay);
    constexpr float ln_2 = 0.693147181f;
    const float d_u = skip * dy + dt * from_input;
    dt = u * from_input + ln_2 * from_decay;
    u = d_u;
  }
};

/// All gradients. \p entries are the states before all tiles but the first. V numbers are read at once, OutV written.
/// Grid: (shares of the groups, batch).
template <class G, int V, int OutV, class T>
__global__ void __launch_bounds__(most_warps * 32, 1)
    backward(Operands<T> o, const T* dy, unsigned dy_stride, const float* entries, Gradients<T> d, int length,
             int share) {
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<BackwardMemory<G, T>*>(dynamic_memory);
  const Place<G> at;
  const BlockPlace<G> block(length, share);
  const int own = at.warp * warp_tokens;
  if (gridDim.x > 1) d.bc += std::size_t{blockIdx.x} * gridDim.y * length * 2 * G::states;

  int stage = 0;
  const auto fetch = [&](int into, int tile, int group) {
    if (group == block.groups) group = 0, --tile;
    if (tile >= 0) {
      const int first = tile * block.tile_tokens + own;
      const int column = (block.first_group + group) * G::channels;
      memory.u[into][at.warp].template fetch<V>(o.u, o.u_stride, block.sequence, first, length, column);
      memory.dt[into][at.warp].template fetch<V>(o.dt, o.dt_stride, block.sequence, first, length, column);
      memory.dy[into][at.warp].template fetch<V>(dy, dy_stride, block.sequence, first, length, column);
    }
    commit_copies();
  };
  // Sum `which` of the warps' sums of a group; `is_first` if no tile has added to it.
  const auto add_up = [&](int which, int group, bool is_first) {
    float sum = is_first ? 0.0f : memory.total[group][which][at.lane];
#pragma unroll 4
    for (int w = 0; w < block.warps; ++w) sum += memory.sums[w][which][at.lane];
    memory.total[group][which][at.lane] = sum;
  };

  fetch(0, block.tiles - 1, 0);
  memory.constants.load(o, at, block.first_group, block.groups);
  for (int tile = block.tiles - 1; tile >= 0; --tile) {
    const int first = tile * block.tile_tokens;
    if (tile < block.tiles - 1) __syncthreads();
    memory.bc.load(o, block.sequence, first, length);
    for (int i = static_cast<int>(threadIdx.x); i < block.groups * lane_states * 32;
         i += static_cast<int>(blockDim.x)) {
      const std::size_t place = (std::size_t{blockIdx.y} * (block.tiles - 1) + tile - 1) * G::count + block.first_group;
      memory.entry[0][0][i] = tile == 0 ? 0.0f : entries[place * lane_states * 32 + i];
    }
    __syncthreads();
    ProjectionSums sums;
    for (int group = 0; group < block.groups; ++group) {
      if constexpr (stages<T> == 2) fetch(1 - stage, tile, group + 1);
      wait_for_copies<stages<T> - 1>();
      __syncwarp();
      Rows<G, T>& u = memory.u[stage][at.warp];
      Rows<G, T>& dt = memory.dt[stage][at.warp];
      const Rows<G, T>& d_out = memory.dy[stage][at.warp];
      float exponent[lane_states];
#pragma unroll
      for (int i = 0; i < lane_states; ++i) exponent[i] = memory.constants.exponent[group][i][at.lane];
      float decay[warp_tokens][lane_states];
      float state[warp_tokens][lane_states];
      walk(at, u, dt, memory.bc, exponent, decay, memory.on, [&](int t, float, const float(&now)[lane_states]) {
#pragma unroll
        for (int i = 0; i < lane_states; ++i) state[t][i] = now[i];
      });
      walk_back(at, d_out, memory.bc, decay, memory.later);
      __syncthreads();
      for (int job = at.warp; job < 2 * lane_states + lane_sums; job += block.warps) {
        const int i = job % lane_states;
        const float own_exponent = memory.constants.exponent[group][i][at.lane];
        if (job < lane_states) {
          chain<false>(memory.on.states, memory.on.time, own_exponent, i, at.lane, block.warps,
                       memory.entry[group][i][at.lane]);
        } else if (job < 2 * lane_states) {
          float& exit = memory.exit[group][i][at.lane];
          exit = chain<true>(memory.later, memory.on.time, own_exponent, i, at.lane, block.warps,
                             tile == block.tiles - 1 ? 0.0f : exit);
        } else if (group > 0 || tile < block.tiles - 1) {  // the round before
          const bool same = group > 0;
          add_up(job - 2 * lane_states, same ? group - 1 : block.groups - 1,
                 (same ? tile : tile + 1) == block.tiles - 1);
        }
      }
      __syncthreads();
      float first_state[lane_states];
      WayBack back;
      const float skip = memory.constants.skip[group][at.lane];
#pragma unroll
      for (int i = 0; i < lane_states; ++i) {
        first_state[i] = memory.on.states[at.warp][i][at.lane];
        back.later[i] = memory.later[at.warp][i][at.lane];
        float handed = first_state[i];
#pragma unroll
        for (int t = 0; t < warp_tokens; ++t) {
          handed *= decay[t][i];
          state[t][i] += handed;
        }
      }
#pragma unroll
      for (int t = warp_tokens - 1; t >= 0; --t) {
        float in = to_float(u.value[t][at.column]);
        float step = to_float(dt.value[t][at.column]);
        float b[lane_states], c[lane_states];
        memory.bc.read_b(own + t, at.part, b);
        memory.bc.read_c(own + t, at.part, c);
        back.step<sizeof(T) == sizeof(float)>(at, t, in, step, to_float(d_out.value[t][at.column]), b, c, exponent,
                                              skip, decay[t], state[t], t > 0 ? state[t > 0 ? t - 1 : 0] : first_state,
                                              sums);
        if constexpr (G::parts > 1) __syncwarp();  // all parts have read the token
        if (at.part == 0) {
          u.value[t][at.column] = from_float<T>(in);
          dt.value[t][at.column] = from_float<T>(step);
        }
      }
#pragma unroll
      for (int i = 0; i < lane_states; ++i) memory.sums[at.warp][i][at.lane] = back.d_a[i];
      memory.sums[at.warp][lane_states][at.lane] = back.d_skip;
      __syncwarp();
      const int column = (block.first_group + group) * G::channels;
      u.template store<OutV>(d.u, d.u_stride, block.sequence, first + own, length, column);
      dt.template store<OutV>(d.dt, d.dt_stride, block.sequence, first + own, length, column);
      __syncwarp();  // all lanes are done with this stage
      if constexpr (stages<T> == 1)
        fetch(0, tile, group + 1);
      else
        stage = 1 - stage;
    }
    sums.store(at, d, block.sequence + first + own, length - first - own);
  }
  __syncthreads();
  float* row = d.parameters + std::size_t{blockIdx.y} * G::all_channels * (G::states + 1);
  for (int which = at.warp; which < lane_sums; which += block.warps) {
    add_up(which, block.groups - 1, block.tiles == 1);
    for (int group = 0; group < block.groups; ++group) {
      const int channel = (block.first_group + group) * G::channels + at.column;
      if (channel >= G::all_channels) continue;
      const float sum = memory.total[group][which][at.lane];
      if (which == lane_states) {
        if (at.part == 0) row[G::all_channels * G::states + channel] = sum;
      } else if (at.state(which) < G::states) {
        row[channel * G::states + at.state(which)] = sum;
      }
    }
  }
}

/// dB and dC from the parts of the blocks along the channels.
template <int States, class T>
__global__ void __launch_bounds__(256) add_projections(const float* bc, int parts, Gradients<T> d, unsigned tokens) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= tokens * 2 * States) return;
  float sum = 0;
#pragma unroll 8
  for (int p = 0; p < parts; ++p) sum += bc[std::size_t{static_cast<unsigned>(p)} * tokens * 2 * States + index];
  const unsigned row = index / (2 * States);
  const unsigned n = index % (2 * States);
  if (n < States)
    d.b[row * d.b_stride + n] = from_float<T>(sum);
  else
    d.c[row * d.c_stride + n - States] = from_float<T>(sum);
}

/// Adds dA and dD of all sequences, the first `of_a` and the other columns of \p rows. A block has 32 columns.
inline constexpr int parameter_slices = 8;
static __global__ void __launch_bounds__(32 * parameter_slices)
    add_parameters(const float* rows, int batch, int of_a, int columns, float* a, float* skip) {
  __shared__ float part[parameter_slices][32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int slice = static_cast<int>(threadIdx.x) / 32;
  const int column = static_cast<int>(blockIdx.x) * 32 + lane;
  float sum = 0;
  if (column < columns) {
#pragma unroll 16
    for (int r = slice; r < batch; r += parameter_slices) sum += rows[static_cast<std::size_t>(r) * columns + column];
  }
  part[slice][lane] = sum;
  __syncthreads();
  if (slice > 0 || column >= columns) return;
#pragma unroll
  for (int s = 1; s < parameter_slices; ++s) sum += part[s][lane];
  if (column < of_a)
    a[column] += sum;
  else
    skip[column - of_a] += sum;
}

}  // namespace mad::cuda::scan_detail
