// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The outputs of a chunk, from the state S at its start:
///
///     P[t,s] = sum_d q_{t,d} w_{s+1,d} ... w_{t,d} k_{s,d} for s <= t,   o_t = scale ((w_1 ... w_t q_t) S + sum_s
///     P[t,s] v_s)
#pragma once

#include <mad/cuda/linear_recurrence_chunks_decay.cuh>

namespace mad::cuda::recurrence_chunks {

/// Pairs of a warp's tokens with those of the chunk, by where these lie.
struct Pairs {
  Square own;     ///< with the warp's
  Square near;    ///< with those of the neighbour of the same half
  Square far[2];  ///< with those of the other half

  /// The first token of the far ones.
  __device__ static int far_from(int warp) { return warp < 2 ? chunk / 2 : 0; }
  __device__ static int near_from(int warp) { return (warp ^ 1) * own_rows; }
};

/// A slab in shared memory, with `States` of the state at the chunk's start and the gradient of that at its end.
template <class S, int States>
struct Slab {
  Tile<chunk, slab> query, key, decay;
  Tile<Padded<S>::values, slab> state[States];
};

/// Rows of tokens of all heads that are written.
struct Results {
  BFloat16* data;
  std::size_t stride;
};

/// What the block of a chunk reads.
template <class S>
struct Sources {
  Rows query, key, value, decay;
  int head, sequence, index, ends;

  __device__ Sources(const Operands<S>& o, int length)
      : head(static_cast<int>(blockIdx.y)),
        sequence(static_cast<int>(blockIdx.z)),
        index(static_cast<int>(blockIdx.x)),
        ends(chunks(length) - 1) {
    query = rows_of<Side::query, S>(o, sequence, head, length);
    key = rows_of<Side::key, S>(o, sequence, head, length);
    value = rows_of<Side::value, S>(o, sequence, head, length);
    decay = decays_of<S>(o, sequence, head, length);
  }
  __device__ int first() const { return index * chunk; }
  /// States at ends; there is none before the first chunk and behind the last.
  __device__ std::size_t state(int end) const {
    return ((static_cast<std::size_t>(sequence) * S::heads + head) * ends + end) * Padded<S>::state_numbers;
  }
  __device__ BFloat16* row(const Results& to, int token) const {
    return to.data + (static_cast<std::size_t>(sequence) * query.tokens + token) * to.stride;
  }
  template <int States>
  __device__ void load(Slab<S, States>& to, int n) const {
    load_rows<S::key_chunk, slab, S::key>(to.query, query, first(), n * slab);
    load_rows<S::key_chunk, slab, S::key>(to.key, key, first(), n * slab);
    if constexpr (S::decay != Decay::none) load_rows<S::key_chunk, slab, S::key>(to.decay, decay, first(), n * slab);
  }
};

template <class S>
struct ForwardMemory {
  Tile<chunk, Padded<S>::values> values;
  Slab<S, 1> slabs[2];
  Exchange exchange;
};

/// Sums of a warp's tokens, which are rows `own` and on of the chunk, to the rows of a head's values. They go through a
/// tile that nobody reads any more, because rows of sums are spread over lanes.
template <class S, int C, bool Normaliser>
__device__ inline void store_values(const Square (&sums)[Padded<S>::values / 16], float scale, const Results& to,
                                    const Sources<S>& from, Tile<chunk, Padded<S>::values>& tile, int own) {
  const Lane lane;
#pragma unroll
  for (int c = 0; c < Padded<S>::values / 16; ++c)
#pragma unroll
    for (int e = 0; e < 8; e += 2)
      *reinterpret_cast<std::uint32_t*>(tile.row(own + lane.row_of(e)) + c * 16 + lane.column_of(e)) =
          tensor::pack(scale * sums[c].value[e], scale * sums[c].value[e + 1]);
  __syncwarp();
  const int t = from.first() + own;
  const int count = from.query.tokens - t;
  BFloat16* row = from.row(to, t);
  store_rows<C, S::value>(tile, own, row + from.head * S::value, to.stride, count);
  const int r = static_cast<int>(threadIdx.x) % 32;
  if (Normaliser && r < min(own_rows, count))
    row[r * to.stride + S::heads * S::value + from.head] = tile.row(own + r)[S::value];
}

/// Grid: (chunks, heads, batch). `states` are those at the ends of chunks.
template <class S>
__global__ void __launch_bounds__(threads, 3)
    outputs(Operands<S> o, const BFloat16* states, Results to, int length, float scale) {
  using P = Padded<S>;
  constexpr bool decays = S::decay != Decay::none;
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<ForwardMemory<S>*>(dynamic_memory);
  Exchange& exchange = memory.exchange;
  const Sources<S> from(o, length);
  const Lane lane;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int own = warp * own_rows;
  const int near = Pairs::near_from(warp);
  const bool near_late = warp % 2 == 1;
  const bool far_late = warp >= 2;
  const auto load = [&](int n) {
    Slab<S, 1>& to_slab = memory.slabs[n % 2];
    from.load(to_slab, n);
    const bool here = from.index > 0;
    load_state(to_slab.state[0], states + (here ? from.state(from.index - 1) + n * P::slab_numbers : 0), here);
  };
  fill_last_columns<S, false>(memory.values);
  load_rows<S::value_chunk, S::value, S::value>(memory.values, from.value, from.first(), 0);
  load(0);
  commit_copies();

  Pairs pairs;
  float same[2]{};  // q_t . k_t of the lane's rows
  Square sums[P::values / 16];
  for (int n = 0; n < P::slabs; ++n) {
    wait_for_copies<0>();
    __syncthreads();
    if (n + 1 < P::slabs) load(n + 1);
    commit_copies();
    Slab<S, 1>& now = memory.slabs[n % 2];
    Left<16> query = now.query.template left<16>(own, 0);
    if constexpr (decays) {
      const Square q = unpacked(query);
      const Square k = unpacked(now.key.template left<16>(own, 0));
      Factors f(now.decay.template left<16>(own, 0));
#pragma unroll
      for (int e = 0; e < 8; ++e) same[e / 2 % 2] += q.value[e] * k.value[e];
      add_pairs<0>(pairs.own, weighed(InWarp<0>(), q, k, f));
      f.join<0>();
      add_pairs<1>(pairs.own, weighed(InWarp<1>(), q, k, f));
      f.join<1>();
      add_pairs<2>(pairs.own, weighed(InWarp<2>(), q, k, f));
      f.join<2>();
      add_pairs<3>(pairs.own, weighed(InWarp<3>(), q, k, f));
      f.join<3>();
      const Left<16> x = weighed(OfWarp{near_late}, q, k, f);
      store_left(exchange.near, own, x);
      exchange.put_decay(warp, f);
      __syncthreads();
      if (near_late) multiply_add(pairs.near, x, rights_of_rows(exchange.near, near, 0));
      f.join(OfWarp{near_late}, exchange.decay[warp ^ 1]);
      const Left<16> y = weighed(OfWarp{far_late}, q, k, f);
      store_left(exchange.far, own, y);
      f.join(OfWarp{far_late}, exchange.decay[warp ^ 2]);
      f.join(OfWarp{far_late}, exchange.decay[warp ^ 3]);
      query = weighed(OfWarp{true}, q, k, f);
      __syncthreads();
      if (far_late)
#pragma unroll
        for (int j = 0; j < 2; ++j) multiply_add(pairs.far[j], y, rights_of_rows(exchange.far, j * 16, 0));
    } else {
      multiply_add(pairs.own, query, rights_of_rows(now.key, own, 0));
      if (near_late) multiply_add(pairs.near, query, rights_of_rows(now.key, near, 0));
      if (far_late)
#pragma unroll
        for (int j = 0; j < 2; ++j) multiply_add(pairs.far[j], query, rights_of_rows(now.key, j * 16, 0));
    }
#pragma unroll
    for (int c = 0; c < P::values / 16; ++c) multiply_add(sums[c], query, rights_of_rows(now.state[0], c * 16, 0));
  }

  if constexpr (decays)
#pragma unroll
    for (float& x : same) x = lane_sum<4>(x);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    if (decays && lane.row_of(e) == lane.column_of(e)) pairs.own.value[e] = same[e / 2 % 2];
    if (lane.row_of(e) < lane.column_of(e)) pairs.own.value[e] = 0;
  }
  const auto mix = [&](const Square& p, int row) {
    const Left<16> left = rounded(p);
#pragma unroll
    for (int c = 0; c < P::values / 16; ++c) multiply_add(sums[c], left, rights(memory.values, row, c * 16));
  };
  mix(pairs.own, own);
  if (near_late) mix(pairs.near, near);
  if (far_late) {
    mix(pairs.far[0], 0);
    mix(pairs.far[1], 16);
  }
  __syncthreads();
  store_values<S, S::output_chunk, S::normaliser>(sums, scale, to, from, memory.values, own);
}

}  // namespace mad::cuda::recurrence_chunks
