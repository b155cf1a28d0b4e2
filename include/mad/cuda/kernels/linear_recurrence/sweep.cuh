// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The linear recurrence token by token: the one sweep that its output and three of its gradients are.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/linear_recurrence/layout.cuh>

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
  using OfKeys = Spread<S::columns, S::key, S::heads, S::group, 64>;
  /// The gradients' tasks share a kernel, so that blocks should have the same size.
  using P = std::conditional_t<keys_are_free, OfKeys, Spread<S::key, S::columns, S::heads, 1, OfKeys::threads>>;
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
  float bonus = 1;  ///< of the free column, if that is a key's

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
      if constexpr (S::decay != Decay::none && !S::decay_per_token)
        decay[i] = expf(to_float(o.log_decay[S::decay == Decay::head ? head : head * S::key + channel]));
    }
    if constexpr (S::bonus && keys_are_free) bonus = to_float(o.bonus[head * S::key + column]);
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
  __device__ float operator()(float x) const { return tensor::power_of_two(1.44269504f * x); }
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

/// With a bonus u, what the present token counts for by itself: a_t.c_t, or a_t.(u c_t) where keys are summed. It is
/// the same for all columns of a head.
template <class S, class R, int Tokens, int Threads>
struct OwnTerms {
  using P = typename R::P;
  static constexpr int weights = S::bonus && !R::keys_are_free ? P::heads * P::padded : 0;

  /// Puts the weights u into shared memory.
  template <class O>
  __device__ static void start(const O& o, float* u, const Place<P>& at) {
    for (int i = static_cast<int>(threadIdx.x); i < weights; i += Threads) {
      const int channel = at.first_summed() + i % P::padded;
      const bool here = channel < S::key && i % P::padded < P::slice;
      u[i] = here ? to_float(o.bonus[(at.first_head + i / P::padded) * S::key + channel]) : 0.0f;
    }
  }
  /// Rows of tokens begin at a, c and `own`, `stride` apart.
  __device__ static void compute(const float* a, const float* c, const float* u, float* own, int stride) {
    if constexpr (S::bonus) {
      for (int i = static_cast<int>(threadIdx.x); i < Tokens * P::heads; i += Threads) {
        const int row = i / P::heads * stride;
        const int head = i % P::heads;
        float sum[4]{};
#pragma unroll
        for (int j = 0; j < P::padded; j += 4) {
          float of_a[4], of_c[4], weight[4]{1, 1, 1, 1};
          load(a + row + head * P::padded + j, of_a);
          load(c + row + head * P::padded + j, of_c);
          if constexpr (weights > 0) load(u + head * P::padded + j, weight);
#pragma unroll
          for (int k = 0; k < 4; ++k) sum[k] += weight[k] * of_a[k] * of_c[k];
        }
        own[row + head] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
      }
      __syncthreads();
    }
  }
};

/// One token: the state S decays, takes in a b, and is read by c. Returns this thread's part of c S. With a bonus the
/// state is read before it decays and takes in the token.
template <class S, bool Backwards, int N, class F>
__device__ inline float advance(float (&state)[N], const float (&a)[N], float b, const float (&c)[N],
                                const F& factors) {
  float sum[2] = {0, 0};
  const auto read = [&](int i) { sum[i % 2] += c[i] * state[i]; };
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if constexpr (S::bonus) {
      read(i);
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
  return sum[0] + sum[1];
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
  static constexpr int own_at = decay_at + F::numbers;
  static constexpr int numbers = row_stride(own_at + (S::bonus ? P::heads : 0));  ///< from one token to the next
  static constexpr int tokens = tokens_for(numbers, at_once);
  using Own = OwnTerms<S, R, tokens, Threads>;
  static constexpr int memory = tokens * numbers + Own::weights;

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
    float* weights = memory + tokens * numbers;
    Own::start(o, weights, at);
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
      Own::compute(memory, memory + c_at, weights, memory + own_at, numbers);
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
          sum[token] = advance<S, R::backwards>(state, a, own_number<Threads>(row + b_at, at), c, factors);
        }
        __syncwarp();  // every lane of a column has read b by now
        sum_to_lanes<P::parts>(sum, at.part, [&](int token, float total) {
          if (!at.here) return;
          float* row = memory + (begin + token) * numbers;
          float& b = row[b_at + at.head * P::slot + at.column];
          if constexpr (S::bonus) total += row[own_at + at.head] * factors.bonus * b;
          b = scale * total;
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
