// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of the selective scan.
///
///     dy_t = d_out_t silu(z_t),  dz_t = d_out_t y_t silu'(z_t),  silu'(z) = s + z s (1 - s),  s = sigmoid(z)
///     G_t = dy_t C_t + a_{t+1} G_{t+1},  a_t = exp(dt_t A);  dC_t = dy_t S_t,  dB_t = dt_t u_t G_t,
///     du_t = D dy_t + dt_t (G_t.B_t),  d_dt_t = u_t (G_t.B_t) + sum_n G_t S_{t-1} a_t A,
///     d_step_t = d_dt_t (1 - exp(-dt_t)) where dt = softplus(step),
///     dA = sum_t G_t S_{t-1} a_t dt_t,  dD = sum_t dy_t u_t
///
/// Segments come from the last one on, and k counts them. A warp goes through its segment forwards from the states that
/// the forward pass has kept, which gives y and so dz, and has decays and states in registers; then it takes a G from
/// the other warp, and walks back. dB and dC are sums over all channels; each lane has a channel, so these are sums
/// over lanes: of quads by the tensor cores, as products with a matrix of ones, of the rest of a warp by exchanges. The
/// sums of the block's groups are added up after some segments.
#pragma once

#include <mad/cuda/kernels/selective_scan/layout.cuh>

namespace mad::cuda::scan_detail {

template <class T>
struct Gradients {
  TokenRows<T> u, step, gate, bc;  ///< `step` is what the time steps are softplus of
  float* bc_parts;    ///< (blocks along the channels, tokens, 2 States): parts of dB and dC, if the blocks are several
  float* parameters;  ///< (batch, Channels States + Channels): dA and dD of each sequence
};

/// Segments whose dB and dC are added up among the groups together; half of them are a warp's.
template <class G>
inline constexpr int round_segments = std::max(8 / G::parts, 2);

/// `Maps` as they come from memory. There are not the registers to have them on their way in, as forwards: what does
/// not fit is put aside, and waits for the load.
template <class G, class T>
struct StoredMaps {
  static constexpr int columns = 2 * G::states;
  alignas(16) T value[segment_tokens][columns];

  /// Reads those of tokens `first` on, V numbers at a time; zeros where there are none.
  template <int V>
  __device__ void fetch(const Place<G>& at, const TokenRows<const T>& bc, int first) {
    constexpr int pieces = segment_tokens * columns / V;
#pragma unroll
    for (int begin = 0; begin < pieces; begin += 32) {
      const int i = begin + at.lane;
      if (pieces % 32 != 0 && i >= pieces) break;
      const int t = i / (columns / V);
      const int c = i % (columns / V) * V;
      const bool here = static_cast<unsigned>(first + t) < static_cast<unsigned>(at.length);
      fetch_piece<V>(&value[t][c], bc.at(here ? first + t : 0, c), here);
    }
  }
  __device__ void unpack(const Place<G>& at, Maps<G>& to) const {
#pragma unroll
    for (int i = at.lane; i < segment_tokens * Maps<G>::numbers; i += 32) {
      const int n = i % Maps<G>::numbers;
      const int state = n % G::padded_states;
      to.value[0][i] = state < G::states
                           ? to_float(value[i / Maps<G>::numbers][n < G::padded_states ? state : G::states + state])
                           : 0;
    }
  }
};

template <class G, class T>
struct alignas(16) BackwardMemory {
  struct Warp {
    Rows<G, T> u[stages<T>];     ///< in the end du
    Rows<G, T> dt[stages<T>];    ///< in the end d_step
    Rows<G, T> gate[stages<T>];  ///< in the end dz
    Rows<G, T> d_out[stages<T>];
    float first_state[stages<T>][32][lane_states];  ///< of the segment, by lane
    StoredMaps<G, T> stored_maps[stages<T>];
    Maps<G> maps;
  };
  Warp warp[2];
  Maps<G> sums[round_segments<G>];    ///< dB and dC of the group's channels
  float of_odd[lane_states + 1][32];  ///< dA of a lane's states, and dD, of every other segment
  Turns turns;
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

/// dB and dC of half a segment's tokens.
struct MapSums {
  static constexpr int tokens = 4;
  float of_b[4]{};
  float of_c[4]{};

  /// Adds up what quads of lanes have, and writes the sums of these tokens.
  template <class G>
  __device__ void store(const Place<G>& at, float (*to)[Maps<G>::numbers]) const {
    float x[8];
    constexpr int place[4] = {0, 2, 1, 3};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[place[i]] = of_b[i];
      x[4 + place[i]] = of_c[i];
    }
    // Lanes with the same token share the numbers out among them.
    int first = 0;
    int count = 8;
#pragma unroll
    for (int offset = G::channels / 2; offset >= 4; offset /= 2) {
      count /= 2;
      const bool upper = (at.column & offset) != 0;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const float kept = upper ? x[i + count] : x[i];
        x[i] = kept + __shfl_xor_sync(0xffffffffu, upper ? x[i] : x[i + count], offset);
      }
      first += upper ? count : 0;
    }
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int n = first + i;
      to[at.lane % 4][(n < 4 ? 0 : G::padded_states) + at.part * lane_states + n % 4] = x[i];
    }
  }
};

/// What a lane carries on its way back over tokens.
struct WayBack {
  float later[lane_states]{};  ///< a_{t+1} G_{t+1}
  float d_a[lane_states]{};
  float d_skip = 0;

  /// A token: its u and dt, which become du and d_dt, and dy; `which` of the four whose sums these are.
  template <bool Exact, class G>
  __device__ void step(int which, float& u, float& dt, float dy, const float (&b)[lane_states],
                       const float (&c)[lane_states], const float (&exponent)[lane_states], float skip,
                       const float (&decay)[lane_states], const float (&state)[lane_states],
                       const float (&before)[lane_states], MapSums& sums) {
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
    add_over_quads<Exact>(sums.of_b, d_b, which);
    add_over_quads<Exact>(sums.of_c, d_c, which);
    d_skip += dy * u;
    from_input = sum_of_parts<G>(from_input);
    from_decay = sum_of_parts<G>(from_decay);
    constexpr float ln_2 = 0.693147181f;
    const float d_u = skip * dy + dt * from_input;
    dt = u * from_input + ln_2 * from_decay;
    u = d_u;
  }
};

/// Starts to copy a lane's states before a segment, V at a time; the first begins with zeros, and so does what is no
/// channel's.
template <int V, class G>
__device__ inline void fetch_states(const Place<G>& at, const float* kept, int segment, float (&to)[lane_states]) {
#pragma unroll
  for (int i = 0; i < lane_states; i += V) {
    const bool here = segment > 0 && at.has_channel && at.state(i) < G::states;
    fetch_piece<V>(to + i, here ? at.kept_states(kept, segment) + i : kept, here);
  }
}

/// Adds the sums of the block's groups up for the segments of a round, and writes dB and dC.
template <class G, class T>
__device__ inline void add_up_maps(const Place<G>& at, const BackwardMemory<G, T>* memory, const Gradients<T>& d,
                                   int round) {
  constexpr int numbers = Maps<G>::numbers;
  for (int i = static_cast<int>(threadIdx.x); i < round_segments<G> * segment_tokens * numbers;
       i += static_cast<int>(blockDim.x)) {
    const int k = i / (segment_tokens * numbers);
    const int t = i / numbers % segment_tokens;
    const int n = i % numbers;
    const int token = (at.segments - 1 - round * round_segments<G> - k) * segment_tokens + t;
    if (token < 0 || token >= at.length || n % G::padded_states >= G::states) continue;
    float sum = 0;
#pragma unroll 8
    for (int group = 0; group < at.groups; ++group) sum += memory[group].sums[k].value[t][n];
    const std::size_t row = std::size_t{blockIdx.y} * at.length + token;
    const int column = n < G::padded_states ? n : n - G::padded_states + G::states;
    if (gridDim.x == 1)
      d.bc.data[row * d.bc.stride + column] = from_float<T>(sum);
    else
      d.bc_parts[row * 2 * G::states + column] = sum;
  }
}

/// All gradients. V numbers of rows are read at once, MapV of B and C, KeptV of a lane's states, and OutV written.
/// Grid: (blocks along the channels, batch).
template <class G, int V, int MapV, int OutV, int KeptV, class T>
__global__ void __launch_bounds__(most_groups * 64, 1)
    backward(Operands<T> o, TokenRows<const T> d_out, TokenRows<const float> kept, Gradients<T> d, int length) {
  extern __shared__ float4 dynamic_memory[];
  const Place<G> at(length);
  auto* const all_memory = reinterpret_cast<BackwardMemory<G, T>*>(dynamic_memory);
  auto& memory = all_memory[at.group];
  auto& own = memory.warp[at.turn];
  constexpr bool exact = Gates<T>::exact;
  const auto u_rows = o.u.of_sequence(length), dt_rows = o.dt.of_sequence(length);
  const auto gate_rows = o.gate.of_sequence(length), maps = o.bc.of_sequence(length);
  const auto d_out_rows = d_out.of_sequence(length);
  const auto d_u_rows = d.u.of_sequence(length), d_step_rows = d.step.of_sequence(length);
  const auto d_gate_rows = d.gate.of_sequence(length);
  const float* const kept_states = kept.of_sequence(length).data;
  if (gridDim.x > 1) d.bc_parts += std::size_t{blockIdx.x} * gridDim.y * length * 2 * G::states;
  const auto fetch = [&](int k) {
    const int stage = static_cast<int>(static_cast<unsigned>(k) / 2 % stages<T>);
    const int first = (at.segments - 1 - k) * segment_tokens;
    if (k < at.segments) {
      own.u[stage].template fetch<V>(at, u_rows, first);
      own.dt[stage].template fetch<V>(at, dt_rows, first);
      own.gate[stage].template fetch<V>(at, gate_rows, first);
      own.d_out[stage].template fetch<V>(at, d_out_rows, first);
      own.stored_maps[stage].template fetch<MapV>(at, maps, first);
      fetch_states<KeptV>(at, kept_states, at.segments - 1 - k, own.first_state[stage][at.lane]);
    }
    commit_copies();
  };
  fetch(at.turn);
  if (at.turn == 0 && at.lane == 0) memory.turns.start();
  float exponent[lane_states];
  at.load_exponents(o, exponent);
  const float skip = at.has_channel ? o.skip[at.channel] : 0.0f;
  WayBack back;
  __syncthreads();
  const int rounds = (at.segments + round_segments<G> - 1) / round_segments<G>;
  for (int round = 0; round < rounds; ++round) {
    const int end = min(at.segments, (round + 1) * round_segments<G>);
    for (int k = round * round_segments<G> + at.turn; k < end; k += 2) {
      const int segment = at.segments - 1 - k;
      const int stage = static_cast<int>(static_cast<unsigned>(k) / 2 % stages<T>);
      Rows<G, T>& u = own.u[stage];
      Rows<G, T>& time_step = own.dt[stage];
      Rows<G, T>& gate = own.gate[stage];
      if constexpr (stages<T> == 2) fetch(k + 2);
      wait_for_copies<stages<T> - 1>();
      __syncwarp();
      own.stored_maps[stage].unpack(at, own.maps);
      __syncwarp();
      // Forwards: what asks for no G.
      float dy[segment_tokens];
      float decay[segment_tokens][lane_states], state[segment_tokens][lane_states];
      float first_state[lane_states];
      load(own.first_state[stage][at.lane], first_state);
#pragma unroll
      for (int t = 0; t < segment_tokens; ++t) {
        const float dt = to_float(time_step.value[t][at.column]);
        const float in = to_float(u.value[t][at.column]);
        const float input = dt * in;
        float b[lane_states], c[lane_states];
        own.maps.read_b(t, at.part, b);
        own.maps.read_c(t, at.part, c);
        float y = at.part == 0 ? skip * in : 0.0f;
#pragma unroll
        for (int i = 0; i < lane_states; ++i) {
          decay[t][i] = tensor::power_of_two(dt * exponent[i]);
          state[t][i] = decay[t][i] * (t > 0 ? state[t > 0 ? t - 1 : 0][i] : first_state[i]) + input * b[i];
          y += state[t][i] * c[i];
        }
        y = sum_of_parts<G>(y);
        const float z = to_float(gate.value[t][at.column]);
        const float gradient = to_float(own.d_out[stage].value[t][at.column]);
        const float s = Gates<T>::sigmoid(z);
        const float silu = z * s;
        dy[t] = gradient * silu;
        if constexpr (G::parts > 1) __syncwarp();  // all parts have read the token
        if (at.part == 0) gate.value[t][at.column] = from_float<T>(gradient * y * (s + silu * (1 - s)));
      }
      // And back.
      if (k > 0) memory.turns.take(k, at.lane, back.later);
#pragma unroll
      for (int half = segment_tokens / MapSums::tokens - 1; half >= 0; --half) {
        MapSums sums;
#pragma unroll
        for (int which = MapSums::tokens - 1; which >= 0; --which) {
          const int t = half * MapSums::tokens + which;
          float in = to_float(u.value[t][at.column]);
          const float dt = to_float(time_step.value[t][at.column]);  // kept, it costs a register each token
          float d_dt = dt;
          float b[lane_states], c[lane_states];
          own.maps.read_b(t, at.part, b);
          own.maps.read_c(t, at.part, c);
          back.template step<exact, G>(which, in, d_dt, dy[t], b, c, exponent, skip, decay[t], state[t],
                                       t > 0 ? state[t > 0 ? t - 1 : 0] : first_state, sums);
          if constexpr (G::parts > 1) __syncwarp();  // all parts have read the token
          if (at.part == 0) {
            u.value[t][at.column] = from_float<T>(in);
            time_step.value[t][at.column] = from_float<T>(Gates<T>::softplus_gradient(d_dt, dt));
          }
        }
        if (half == 0 && k + 1 < at.segments) memory.turns.give(k, at.lane, back.later);
        sums.store(at, &memory.sums[k % round_segments<G>].value[half * MapSums::tokens]);
      }
      __syncwarp();
      const int first = segment * segment_tokens;
      u.template store<OutV>(at, d_u_rows, first);
      time_step.template store<OutV>(at, d_step_rows, first);
      gate.template store<OutV>(at, d_gate_rows, first);
      __syncwarp();  // all lanes are done with this stage
      if constexpr (stages<T> == 1) fetch(k + 2);
    }
    __syncthreads();
    add_up_maps(at, all_memory, d, round);
    __syncthreads();
  }
  if (at.turn == 1) {
#pragma unroll
    for (int i = 0; i < lane_states; ++i) memory.of_odd[i][at.lane] = back.d_a[i];
    memory.of_odd[lane_states][at.lane] = back.d_skip;
  }
  __syncthreads();
  if (at.turn == 1 || !at.has_channel) return;
  float* const row = d.parameters + std::size_t{blockIdx.y} * G::all_channels * (G::states + 1);
#pragma unroll
  for (int i = 0; i < lane_states; ++i)
    if (at.state(i) < G::states) row[at.channel * G::states + at.state(i)] = back.d_a[i] + memory.of_odd[i][at.lane];
  if (at.part == 0) row[G::all_channels * G::states + at.channel] = back.d_skip + memory.of_odd[lane_states][at.lane];
}

/// dB and dC from the parts of the blocks along the channels.
template <int States, class T>
__global__ void __launch_bounds__(256) add_maps(const float* bc, int parts, Gradients<T> d, unsigned tokens) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= tokens * 2 * States) return;
  float sum = 0;
#pragma unroll 8
  for (int p = 0; p < parts; ++p) sum += bc[std::size_t{static_cast<unsigned>(p)} * tokens * 2 * States + index];
  const unsigned row = index / (2 * States);
  const unsigned n = index % (2 * States);
  d.bc.data[std::size_t{row} * d.bc.stride + n] = from_float<T>(sum);
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
