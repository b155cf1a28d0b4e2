// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of the linear recurrence: sweeps, and a sweep with the recorded states where decays or the bonus have
/// gradients.
#pragma once

#include <mad/cuda/kernels/linear_recurrence/sweep.cuh>

namespace mad::cuda::recurrence_detail {

/// Which gradients there are besides those of query, key and value.
template <bool OfDecay, bool OfBonus>
struct Wanted {
  static constexpr bool decay = OfDecay, bonus = OfBonus;
};

/// The gradients of log decays and bonus. With G_t the gradient of the state S_t,
///
///     da_t = scale w_t * rowsum(G_t * S_{t-1}),   du = scale sum_t (do_t . v_t) q_t k_t
///
/// has no terms that cancel. (The known shortcut, a reversed cumulative sum of q * dq - k * dk, loses all digits where
/// decays are strong.) The sweep forwards, which finds d_query, keeps the states once in a stretch of tokens; the sweep
/// backwards, which finds d_key, computes those of the stretch again and holds them in registers.
template <class S, class W, int Threads, class T>
struct PairedSweep {
  using Forwards = Sweep<S, Task::d_query, Threads, T>;
  using R = typename Forwards::R;
  using P = typename R::P;
  using F = FactorsOf<S, R>;
  using Result = typename Forwards::Result;
  static constexpr int stretch = P::tile >= 12 ? 4 : 8;

  static constexpr bool decay_rows = W::decay && S::decay_per_token;  ///< a gradient for each token
  static constexpr bool decay_is_whole = P::slices == 1 && (S::decay == Decay::channel || P::free_tiles == 1);
  using DecayResult = std::conditional_t<decay_is_whole, T, float>;

  static constexpr int d_output_at = P::heads * P::padded;
  static constexpr int key_at = 2 * d_output_at;
  static constexpr int query_at = key_at + P::heads * P::slot;
  static constexpr int decay_at = query_at + P::heads * P::slot;
  static constexpr int d_decay_at = decay_at + F::numbers;
  static constexpr int own_at = d_decay_at + (decay_rows ? P::heads * P::slot : 0);
  static constexpr int numbers = row_stride(own_at + (S::bonus ? P::heads : 0));
  static constexpr int tokens = tokens_for(numbers, stretch);
  using Own = OwnTerms<S, R, tokens, Threads>;
  static constexpr int memory = std::max(tokens * numbers, Forwards::memory);

  struct Gradients {
    Destination<Result> query, key;
    Destination<DecayResult> log_decay;  ///< of each token
    float* all_decays;                   ///< (batch slices, H dk): of decays that all tokens share
    float* bonus;                        ///< (batch slices, H dk)
  };

  template <class O>
  static __device__ void run(const O& o, const Gradients& to, const Checkpoints& checkpoints, unsigned block,
                             int length, float scale, float* memory) {
    Forwards::run(o, to.query, block, length, scale, memory, [&](int t, const float(&state)[P::tile]) {
      if (t % stretch == 0) checkpoints.keep(t / stretch, state);
    });
    backwards(o, to, checkpoints, block, length, scale, memory);
  }

private:
  template <class O>
  static __device__ void backwards(const O& o, const Gradients& to, const Checkpoints& checkpoints, unsigned block,
                                   int length, float scale, float* memory) {
    const Place<P> at(block);
    SideStrip<S, Side::value, P::heads, P::slice, tokens, Threads, T> value_strip;
    SideStrip<S, Side::d_output, P::heads, P::slice, tokens, Threads, T> d_output_strip;
    SideStrip<S, Side::key, P::heads, P::free_tile, tokens, Threads, T> key_strip;
    SideStrip<S, Side::query, P::heads, P::free_tile, tokens, Threads, T> query_strip;
    DecayStrip<S, R, tokens, Threads, typename O::Decay> decay_strip;
    F factors;
    factors.start(o, at);
    const std::size_t sequence = static_cast<std::size_t>(at.sequence) * length;
    const int tiles = (length + tokens - 1) / tokens;
    const auto fetch = [&](int first) {
      const std::size_t row = sequence + first;
      value_strip.fetch(o, row, length - first, at.first_head, at.first_summed());
      d_output_strip.fetch(o, row, length - first, at.first_head, at.first_summed());
      key_strip.fetch(o, row, length - first, at.first_head, at.first_free());
      query_strip.fetch(o, row, length - first, at.first_head, at.first_free());
      decay_strip.fetch(o, row, length - first, at);
    };
    fetch((tiles - 1) * tokens);
    for (int i = static_cast<int>(threadIdx.x); i < tokens * numbers; i += Threads) memory[i] = 0;
    __syncthreads();
    float later[P::tile]{};  // the gradient of the state
    float all_decays = 0;
    float d_bonus = 0;
    const int own = at.head * P::slot + at.column;
    float start[P::tile];  // the state before the next stretch
    checkpoints.load((length - 1) / stretch, start);
    for (int k = tiles - 1; k >= 0; --k) {
      const int first = k * tokens;
      value_strip.put(memory, numbers, P::padded, at.first_summed());
      d_output_strip.put(memory + d_output_at, numbers, P::padded, at.first_summed());
      key_strip.put(memory + key_at, numbers, P::slot, at.first_free());
      query_strip.put(memory + query_at, numbers, P::slot, at.first_free());
      decay_strip.put(memory + decay_at, numbers, at);
      __syncthreads();
      if (k > 0) fetch(first - tokens);
      Own::compute(memory, memory + d_output_at, nullptr, memory + own_at, numbers);
#pragma unroll 1
      for (int begin = tokens - stretch; begin >= 0; begin -= stretch) {
        if (first + begin >= length) continue;
        float before[stretch][P::tile];  // S_{t-1}
#pragma unroll
        for (int i = 0; i < P::tile; ++i) before[0][i] = start[i];
        if (first + begin > 0) checkpoints.load((first + begin) / stretch - 1, start);
#pragma unroll
        for (int u = 0; u + 1 < stretch; ++u) {
          const float* row = memory + (begin + u) * numbers;
          float value[P::tile];
          read_tile<P>(row + at.head * P::padded, at.part, value);
          factors.read(row + decay_at, at);
          const float key = row[key_at + own];
#pragma unroll
          for (int i = 0; i < P::tile; ++i) before[u + 1][i] = factors.decay[i] * before[u][i] + key * value[i];
        }
        float d_key[stretch];
        float d_decay[stretch];
#pragma unroll
        for (int u = stretch - 1; u >= 0; --u) {
          const float* row = memory + (begin + u) * numbers;
          float value[P::tile], d_output[P::tile];
          read_tile<P>(row + at.head * P::padded, at.part, value);
          read_tile<P>(row + d_output_at + at.head * P::padded, at.part, d_output);
          factors.read(row + decay_at, at);
          const float query = own_number<Threads>(row + query_at, at);
          if constexpr (S::bonus) d_bonus += row[own_at + at.head] * query * row[key_at + own];
          if constexpr (S::bonus) d_decay[u] = factors.decay[0] * dot(later, before[u]);
          if constexpr (!S::bonus) {
            float now[P::tile];
#pragma unroll
            for (int i = 0; i < P::tile; ++i) now[i] = later[i] + query * d_output[i];
            d_decay[u] = factors.decay[0] * dot(now, before[u]);
          }
          d_key[u] = advance<S, true>(later, d_output, query, value, factors);
          if constexpr (W::decay && !S::decay_per_token) all_decays += d_decay[u];
        }
        __syncwarp();  // every lane of a column has read key and query by now
        sum_to_lanes<P::parts>(d_key, at.part, [&](int u, float sum) {
          if (!at.here) return;
          float* row = memory + (begin + u) * numbers;
          if constexpr (S::bonus) sum += row[own_at + at.head] * factors.bonus * row[query_at + own];
          row[query_at + own] = scale * sum;
        });
        if constexpr (decay_rows)
          sum_to_lanes<P::parts>(d_decay, at.part, [&](int u, float sum) {
            if (at.here) memory[(begin + u) * numbers + d_decay_at + own] = scale * sum;
          });
      }
      __syncthreads();
      SideStrip<S, Side::query, P::heads, P::free_tile, tokens, Threads, T>::template store_rows<R::together>(
          memory + query_at, numbers, P::slot, to.key, sequence + first, length - first, at.slice, at.first_head,
          at.first_free());
      if constexpr (decay_rows) store_decays(memory + d_decay_at, to.log_decay, at, sequence + first, length - first);
      __syncthreads();
    }
    const std::size_t row = static_cast<std::size_t>(at.sequence) * P::slices + at.slice;
    const std::size_t column = (at.first_head + at.head) * S::key + at.first_free() + at.column;
    if constexpr (W::decay && !S::decay_per_token) {
      const float sum = lane_sum<P::parts>(all_decays);
      if (at.here && at.part == 0) to.all_decays[row * S::heads * S::key + column] = scale * sum;
    }
    if constexpr (W::bonus) {
      if (at.here && at.part == 0) to.bonus[row * S::heads * S::key + column] = scale * d_bonus;
    }
  }

  /// The tile's gradients of the decays: per channel, or added up over a head's channels.
  static __device__ void store_decays(const float* from, const Destination<DecayResult>& to, const Place<P>& at,
                                      std::size_t row, int left) {
    if constexpr (S::decay == Decay::channel) {
      using Channels = Strip<P::heads, P::free_tile, 1, S::key, S::key_gradient_chunk, tokens, Threads, T>;
      Channels::template store_rows<1>(from, numbers, P::slot, to, row, left, at.slice, at.first_head, at.first_free(),
                                       S::key - at.first_free());
    } else {
      const int part = at.slice * P::free_tiles + at.free_tile;
      const int columns = min(P::free_tile, P::free - at.first_free());
      for (int i = static_cast<int>(threadIdx.x); i < min(tokens, left) * P::heads; i += Threads) {
        const int token = i / P::heads;
        const int head = i % P::heads;
        const float* slot = from + token * numbers + head * P::slot;
        float sum = 0;
        for (int j = 0; j < columns; ++j) sum += slot[j];
        to.data[part * to.slice_part + (row + token) * to.stride + at.first_head + head] = from_float<DecayResult>(sum);
      }
    }
  }
};

/// How the gradients of a recurrence are spread over a grid: (blocks of the sequences, tasks).
template <class S, class W, class T>
struct GradientGrid {
  using KeyPlan = typename Roles<S, Task::d_query>::P;
  using ValuePlan = typename Roles<S, Task::d_value>::P;
  static constexpr bool paired = W::decay || W::bonus;
  static constexpr int tasks = paired ? 2 : 3;
  static constexpr int threads = std::max(KeyPlan::threads, ValuePlan::threads);
  using Pair = PairedSweep<S, W, threads, T>;
  using Query = Sweep<S, Task::d_query, threads, T>;
  using Key = Sweep<S, Task::d_key, threads, T>;
  using Value = Sweep<S, Task::d_value, threads, T>;
  static constexpr int memory = std::max({paired ? Pair::memory : 0, Query::memory, Key::memory, Value::memory});

  /// Blocks that a multiprocessor must have room for at once: 128 registers per thread, or what many recorded states
  /// take.
  static constexpr int resident_threads = paired && Pair::stretch * KeyPlan::tile > 32 ? 384 : 512;
  static constexpr int resident = std::max(resident_threads / threads, 1);

  static Index blocks(Index batch) { return std::max(KeyPlan::blocks(batch), ValuePlan::blocks(batch)); }
};

template <class S, class W, class T, class D, class B>
__global__ void __launch_bounds__(GradientGrid<S, W, T>::threads, GradientGrid<S, W, T>::resident)
    backward(Operands<T, D, B> o, typename GradientGrid<S, W, T>::Pair::Gradients to,
             Destination<typename GradientGrid<S, W, T>::Value::Result> d_value, Checkpoints checkpoints,
             unsigned key_blocks, unsigned value_blocks, int length, float scale) {
  using G = GradientGrid<S, W, T>;
  __shared__ alignas(16) float memory[G::memory];
  if (blockIdx.y + 1 == G::tasks) {
    if (blockIdx.x < value_blocks) G::Value::run(o, d_value, blockIdx.x, length, scale, memory, KeepNothing{});
    return;
  }
  if (blockIdx.x >= key_blocks) return;
  if constexpr (G::paired) {
    G::Pair::run(o, to, checkpoints, blockIdx.x, length, scale, memory);
  } else if (blockIdx.y == 0) {
    G::Query::run(o, to.query, blockIdx.x, length, scale, memory, KeepNothing{});
  } else {
    G::Key::run(o, to.key, blockIdx.x, length, scale, memory, KeepNothing{});
  }
}

}  // namespace mad::cuda::recurrence_detail
