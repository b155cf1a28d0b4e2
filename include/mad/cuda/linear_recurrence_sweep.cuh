// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The linear recurrence token by token: the one sweep that its output and three of its gradients are.
#pragma once

#include <mad/cuda/linear_recurrence_layout.cuh>

namespace mad::cuda::recurrence_detail {

/// What a sweep computes, and from what: "decay, add a_t b_t, read c_t".
///
///     task       a (summed)   b (free)   c (summed)   time
///     output     key          value      query        forwards
///     d_query    value        key        d_output     forwards
///     d_key      d_output     query      value        backwards
///     d_value    query        d_output   key          backwards
///
/// The result has the columns of b.
enum class Task { output, d_query, d_key, d_value };

template <class S, Task Which>
struct Roles {
  static constexpr bool keys_are_free = Which == Task::d_query || Which == Task::d_key;
  static constexpr bool backwards = Which == Task::d_key || Which == Task::d_value;
  static constexpr Side a = Which == Task::output    ? Side::key
                            : Which == Task::d_query ? Side::value
                            : Which == Task::d_key   ? Side::d_output
                                                     : Side::query;
  static constexpr Side b = Which == Task::output    ? Side::value
                            : Which == Task::d_query ? Side::key
                            : Which == Task::d_key   ? Side::query
                                                     : Side::d_output;
  static constexpr Side c = Which == Task::output    ? Side::query
                            : Which == Task::d_query ? Side::d_output
                            : Which == Task::d_key   ? Side::value
                                                     : Side::key;
  using P = Spread<keys_are_free ? S::columns : S::key, keys_are_free ? S::key : S::columns, S::heads,
                   keys_are_free ? S::group : 1>;
  /// Heads whose sums the block adds up.
  static constexpr int together = keys_are_free && P::heads % S::group == 0 ? S::group : 1;
  /// The block's sums are all there is.
  static constexpr bool is_whole = P::slices == 1 && (!keys_are_free || together == S::group);
};

/// Where decays and bonus lie in a thread's tile: along it, or one number for all of it.
template <class S, class P, bool KeysAreFree>
struct Factors {
  static constexpr bool keys_are_free = KeysAreFree;
  static constexpr bool decay_along = S::decay == Decay::channel && !keys_are_free;
  static constexpr int width = S::decay == Decay::none || !S::decay_per_token ? 0
                               : S::decay == Decay::head                      ? 1
                               : decay_along                                  ? P::slice
                                                                              : P::free_tile;
  static constexpr int slot = width == 1 && S::decay == Decay::head ? 1 : decay_along ? P::padded : P::slot;
  static constexpr int numbers = width == 0 ? 0 : round_up(P::heads * slot, 4);

  float decay[P::tile];
  float bonus[P::tile];

  /// What all tokens have in common.
  template <class O>
  __device__ void start(const O& o, const Place<P>& at) {
    const int head = at.first_head + at.head;
    const int column = at.here ? at.first_free() + at.column : 0;
#pragma unroll
    for (int i = 0; i < P::tile; ++i) {
      const int summed = at.first_summed() + Place<P>::along(at.part, i);
      const int channel = keys_are_free ? column : min(summed, S::key - 1);
      decay[i] = 1;
      bonus[i] = 0;
      if constexpr (S::decay != Decay::none && !S::decay_per_token)
        decay[i] = expf(to_float(o.log_decay[S::decay == Decay::head ? head : head * S::key + channel]));
      if constexpr (S::bonus) bonus[i] = to_float(o.bonus[head * S::key + channel]);
    }
  }
  /// The decays of a token, whose numbers begin at `row`.
  __device__ void read(const float* row, const Place<P>& at) {
    if constexpr (width == 0) return;
    if constexpr (decay_along) {
      read_tile<P>(row + at.head * slot, at.part, decay);
    } else {
      const float w = row[at.head * slot + (S::decay == Decay::head ? 0 : at.column)];
#pragma unroll
      for (int i = 0; i < P::tile; ++i) decay[i] = w;
    }
  }
};

template <class S, class R>
using FactorsOf = Factors<S, typename R::P, R::keys_are_free>;

struct Exponential {
  __device__ float operator()(float x) const { return expf(x); }
};

/// Decays per token on their way to shared memory.
template <class S, class R, int Tokens, int Threads, class W>
struct DecayStrip {
  using F = FactorsOf<S, R>;
  using P = typename R::P;
  static constexpr bool per_channel = S::decay == Decay::channel;
  Strip<P::heads, F::width, 1, per_channel ? S::key : 1, per_channel ? S::key_chunk : 1, Tokens, Threads, W> strip;

  __device__ static int first(const Place<P>& at) {
    if (!per_channel) return 0;
    return R::keys_are_free ? at.first_free() : at.first_summed();
  }
  template <class O>
  __device__ void fetch(const O& o, std::size_t row, int tokens, const Place<P>& at) {
    strip.fetch(o.log_decay + row * o.decay_stride, o.decay_stride, tokens, at.first_head, first(at), limit(at));
  }
  __device__ void put(float* to, int token_stride, const Place<P>& at) const {
    strip.put(to, token_stride, F::slot, limit(at), Exponential{});
  }

private:
  __device__ static int limit(const Place<P>& at) { return per_channel ? S::key - first(at) : 1; }
};
template <class S, class R, int Tokens, int Threads, class W>
requires(FactorsOf<S, R>::width == 0) struct DecayStrip<S, R, Tokens, Threads, W> {
  template <class O>
  __device__ void fetch(const O&, std::size_t, int, const Place<typename R::P>&) {}
  __device__ void put(float*, int, const Place<typename R::P>&) const {}
};

/// One token: the state S decays, takes in a b, and is read by c. Returns this thread's part of c S. With a bonus u the
/// state is read before it decays and takes in the token, and the token counts u times besides.
template <class S, bool Backwards, int N, class F>
__device__ inline float advance(float (&state)[N], const float (&a)[N], float b, const float (&c)[N],
                                const F& factors) {
  float sum[2] = {0, 0};
  const auto read = [&](int i) { sum[i % 2] += c[i] * state[i]; };
  float own[2] = {0, 0};
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if constexpr (S::bonus) {
      read(i);
      own[i % 2] += (F::keys_are_free ? c[i] : factors.bonus[i] * c[i]) * a[i];
      state[i] = factors.decay[i] * state[i] + a[i] * b;
    } else if constexpr (Backwards) {
      state[i] += a[i] * b;
      read(i);
      if constexpr (S::decay != Decay::none) state[i] *= factors.decay[i];
    } else {
      if constexpr (S::decay != Decay::none) state[i] *= factors.decay[i];
      state[i] += a[i] * b;
      read(i);
    }
  }
  float total = sum[0] + sum[1];
  if constexpr (S::bonus) total += (own[0] + own[1]) * (F::keys_are_free ? factors.bonus[0] * b : b);
  return total;
}

struct KeepNothing {
  template <int N>
  __device__ void operator()(int, const float (&)[N]) const {}
};

/// A sweep over a sequence by a block of `Threads` threads, tile by tile of tokens in shared memory. Results replace
/// b there, and leave with the tile.
template <class S, Task Which, int Threads, class T>
struct Sweep {
  using R = Roles<S, Which>;
  using P = typename R::P;
  using F = FactorsOf<S, R>;
  using Result = std::conditional_t<R::is_whole, T, float>;
  static constexpr int c_at = P::heads * P::padded;
  static constexpr int b_at = 2 * c_at;
  static constexpr int decay_at = b_at + P::heads * P::slot;
  static constexpr int numbers = decay_at + F::numbers;  ///< per token
  static constexpr int tokens = tokens_for(numbers, at_once);
  static constexpr int memory = tokens * numbers;

  /// `memory` is the shared memory, `keep(t, state)` is called with the state before every fourth token t. Ends with a
  /// barrier.
  template <class W, class B, class Keep>
  static __device__ void run(const Operands<T, W, B>& o, const Destination<Result>& to, unsigned block, int length,
                             float scale, float* memory, const Keep& keep) {
    const Place<P> at(block);
    SideStrip<S, R::a, P::heads, P::slice, tokens, Threads, T> a_strip;
    SideStrip<S, R::b, P::heads, P::free_tile, tokens, Threads, T> b_strip;
    SideStrip<S, R::c, P::heads, P::slice, tokens, Threads, T> c_strip;
    DecayStrip<S, R, tokens, Threads, W> decay_strip;
    F factors;
    factors.start(o, at);
    const std::size_t sequence = static_cast<std::size_t>(at.sequence) * length;
    const int tiles = (length + tokens - 1) / tokens;
    const auto first_of = [&](int k) { return (R::backwards ? tiles - 1 - k : k) * tokens; };
    const auto fetch = [&](int first) {
      const std::size_t row = sequence + first;
      a_strip.fetch(o, row, length - first, at.first_head, at.first_summed());
      b_strip.fetch(o, row, length - first, at.first_head, at.first_free());
      c_strip.fetch(o, row, length - first, at.first_head, at.first_summed());
      decay_strip.fetch(o, row, length - first, at);
    };
    fetch(first_of(0));
    for (int i = static_cast<int>(threadIdx.x); i < tokens * numbers; i += Threads)
      memory[i] = 0;  // what idles stays so
    __syncthreads();
    float state[P::tile]{};
    for (int k = 0; k < tiles; ++k) {
      const int first = first_of(k);
      a_strip.put(memory, numbers, P::padded, at.first_summed());
      b_strip.put(memory + b_at, numbers, P::slot, at.first_free());
      c_strip.put(memory + c_at, numbers, P::padded, at.first_summed());
      decay_strip.put(memory + decay_at, numbers, at);
      __syncthreads();
      if (k + 1 < tiles) fetch(first_of(k + 1));
#pragma unroll 1
      for (int group = 0; group < tokens; group += at_once) {
        const int begin = R::backwards ? tokens - at_once - group : group;
        if (first + begin >= length) continue;
        keep(first + begin, state);
        float sum[at_once];
#pragma unroll
        for (int u = 0; u < at_once; ++u) {
          const int token = R::backwards ? at_once - 1 - u : u;
          const float* row = memory + (begin + token) * numbers;
          float a[P::tile], c[P::tile];
          read_tile<P>(row + at.head * P::padded, at.part, a);
          read_tile<P>(row + c_at + at.head * P::padded, at.part, c);
          factors.read(row + decay_at, at);
          sum[token] = advance<S, R::backwards>(state, a, row[b_at + at.head * P::slot + at.column], c, factors);
        }
        // Every lane of a column has read b by now: its part of the sum depends on it.
        sum_to_lanes<P::parts>(sum, at.part, [&](int token, float total) {
          if (at.here) memory[(begin + token) * numbers + b_at + at.head * P::slot + at.column] = scale * total;
        });
      }
      __syncthreads();
      SideStrip<S, R::b, P::heads, P::free_tile, tokens, Threads, T>::template store_rows<R::together>(
          memory + b_at, numbers, P::slot, to, sequence + first, length - first, at.slice, at.first_head,
          at.first_free());
      __syncthreads();
    }
  }
};

/// The output. Grid: blocks of the sequences.
template <class S, class T, class W, class B>
__global__ void __launch_bounds__(Roles<S, Task::output>::P::threads)
    forward(Operands<T, W, B> o, Destination<typename Sweep<S, Task::output, 32, T>::Result> to, int length,
            float scale) {
  using Job = Sweep<S, Task::output, Roles<S, Task::output>::P::threads, T>;
  __shared__ alignas(16) float memory[Job::memory];
  Job::run(o, to, blockIdx.x, length, scale, memory, KeepNothing{});
}

}  // namespace mad::cuda::recurrence_detail
