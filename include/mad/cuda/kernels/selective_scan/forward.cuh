// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan forwards.
#pragma once

#include <mad/cuda/kernels/selective_scan/layout.cuh>

namespace mad::cuda::scan_detail {

/// The numbers that a lane puts into a warp's `Maps`, on their way: with registers to spare, less
/// work than by way of shared memory.
template <class G, class T>
class NextMaps {
public:
  __device__ void fetch(const Place<G>& at, const TokenRows<const T>& bc, int first) {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const int t = first + (k * 32 + at.lane) / Maps<G>::numbers;
      const int n = (k * 32 + at.lane) % Maps<G>::numbers;
      const int state = n % G::padded_states;
      value_[k] = from_float<T>(0.0f);
      if (state < G::states && static_cast<unsigned>(t) < static_cast<unsigned>(at.length))
        value_[k] = *bc.at(t, n < G::padded_states ? state : G::states + state);
    }
  }
  __device__ void put(const Place<G>& at, Maps<G>& to) const {
#pragma unroll
    for (int k = 0; k < count; ++k) to.value[0][k * 32 + at.lane] = to_float(value_[k]);
  }

private:
  static constexpr int count = segment_tokens * Maps<G>::numbers / 32;
  T value_[count];
};

template <class G, class T>
struct alignas(16) ForwardMemory {
  struct Warp {
    Rows<G, T> u[stages<T>];  ///< in the end the output
    Rows<G, T> dt[stages<T>];
    Rows<G, T> gate[stages<T>];
    Maps<G> maps;
  };
  Warp warp[2];
  Turns turns;
};

/// out_t = y_t silu(z_t), y_t = S_t.C_t + D u_t, S_t = exp(dt_t A) S_{t-1} + dt_t B_t u_t; and the states before all
/// segments but the first. V numbers are read and written at once, KeptV of a lane's states. Grid: (blocks along the
/// channels, batch).
template <class G, int V, int KeptV, class T>
__global__ void __launch_bounds__(most_groups * 64, 1)
    forward(Operands<T> o, TokenRows<T> out, TokenRows<float> kept, int length) {
  extern __shared__ float4 dynamic_memory[];
  const Place<G> at(length);
  auto& memory = reinterpret_cast<ForwardMemory<G, T>*>(dynamic_memory)[at.group];
  auto& own = memory.warp[at.turn];
  const auto u_rows = o.u.of_sequence(length).held(), dt_rows = o.dt.of_sequence(length).held();
  const auto gate_rows = o.gate.of_sequence(length).held(), maps = o.bc.of_sequence(length).held();
  const auto out_rows = out.of_sequence(length).held();
  float* const kept_states = kept.of_sequence(length).held().data;
  NextMaps<G, T> next;
  const auto fetch = [&](int segment) {
    const int stage = static_cast<int>(static_cast<unsigned>(segment) / 2 % stages<T>);
    const int first = segment * segment_tokens;
    if (segment < at.segments) {
      own.u[stage].template fetch<V>(at, u_rows, first);
      own.dt[stage].template fetch<V>(at, dt_rows, first);
      own.gate[stage].template fetch<V>(at, gate_rows, first);
    }
    commit_copies();
  };
  fetch(at.turn);
  next.fetch(at, maps, at.turn * segment_tokens);
  if (at.turn == 0 && at.lane == 0) memory.turns.start();
  float exponent[lane_states];
  at.load_exponents(o, exponent);
  const float skip = at.part == 0 && at.has_channel ? o.skip[at.channel] : 0.0f;
  __syncthreads();
  for (int segment = at.turn; segment < at.segments; segment += 2) {
    const int stage = static_cast<int>(static_cast<unsigned>(segment) / 2 % stages<T>);
    Rows<G, T>& u = own.u[stage];
    if constexpr (stages<T> == 2) fetch(segment + 2);
    next.put(at, own.maps);
    next.fetch(at, maps, (segment + 2) * segment_tokens);
    wait_for_copies<stages<T> - 1>();
    __syncwarp();
    float decay[segment_tokens][lane_states];
    float state[segment_tokens][lane_states];  // at first what is added to it
#pragma unroll
    for (int t = 0; t < segment_tokens; ++t) {
      const float dt = to_float(own.dt[stage].value[t][at.column]);
      const float input = dt * to_float(u.value[t][at.column]);
      float b[lane_states];
      own.maps.read_b(t, at.part, b);
#pragma unroll
      for (int i = 0; i < lane_states; ++i) {
        decay[t][i] = tensor::power_of_two(dt * exponent[i]);
        state[t][i] = input * b[i];
      }
    }
    if (segment > 0) {
      float before[lane_states];
      memory.turns.take(segment, at.lane, before);
#pragma unroll
      for (int i = 0; i < lane_states; ++i) state[0][i] = fmaf(decay[0][i], before[i], state[0][i]);
      if (at.has_channel) {
        float* const to = at.kept_states(kept_states, segment);
        if constexpr (KeptV == lane_states) {
          store(to, before);
        } else {
#pragma unroll
          for (int i = 0; i < lane_states; ++i)
            if (at.state(i) < G::states) to[i] = before[i];
        }
      }
    }
#pragma unroll
    for (int t = 1; t < segment_tokens; ++t)
#pragma unroll
      for (int i = 0; i < lane_states; ++i) state[t][i] = fmaf(decay[t][i], state[t - 1][i], state[t][i]);
    if (segment + 1 < at.segments) memory.turns.give(segment, at.lane, state[segment_tokens - 1]);
#pragma unroll
    for (int t = 0; t < segment_tokens; ++t) {
      float c[lane_states];
      own.maps.read_c(t, at.part, c);
      float y = skip * to_float(u.value[t][at.column]);
#pragma unroll
      for (int i = 0; i < lane_states; ++i) y += state[t][i] * c[i];
      y = sum_of_parts<G>(y);
      const float z = to_float(own.gate[stage].value[t][at.column]);
      if constexpr (G::parts > 1) __syncwarp();  // all parts have read the token
      if (at.part == 0) u.value[t][at.column] = from_float<T>(y * (z * Gates<T>::sigmoid(z)));
    }
    __syncwarp();
    u.template store<V>(at, out_rows, segment * segment_tokens);
    __syncwarp();  // all lanes are done with this stage
    if constexpr (stages<T> == 1) fetch(segment + 2);
  }
}

}  // namespace mad::cuda::scan_detail
