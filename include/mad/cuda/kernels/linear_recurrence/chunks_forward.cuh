// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The outputs of a chunk, from the state S at its start:
///
///     P[t,s] = sum_d q_{t,d} w_{s+1,d} ... w_{t,d} k_{s,d}   for s <= t
///     o_t = scale ((w_1 ... w_t q_t) S + sum_s P[t,s] v_s)
#pragma once

#include <mad/cuda/kernels/linear_recurrence/chunks_decay.cuh>

namespace mad::cuda::recurrence_chunks {

/// The tokens of a warp, and those of other warps that they make pairs with.
struct WarpTokens {
  int warp;
  int own;         ///< the warp's first token in the chunk
  int near;        ///< the first of the neighbour in the same half
  int far;         ///< the first of the other half
  bool near_late;  ///< the warp's tokens come after the near ones
  bool far_late;   ///< ... and after the far ones

  __device__ WarpTokens()
      : warp(static_cast<int>(threadIdx.x) / 32),
        own(warp * own_rows),
        near((warp ^ 1) * own_rows),
        far(warp < 2 ? chunk / 2 : 0),
        near_late(warp % 2 == 1),
        far_late(warp >= 2) {}
};

/// Sums for the pairs of a warp's tokens with those of the chunk.
struct Pairs {
  Square own, near, far[2];
  float same[2]{};  ///< with decays: of the lane's rows with themselves, over the lane's channels

  /// Completes `own`: of pairs with decays the diagonal is still missing; those of queries with later keys are nothing.
  /// Rows are queries, or else keys.
  template <bool Decays, bool RowsAreQueries>
  __device__ void finish() {
    const Lane lane;
    if constexpr (Decays)
#pragma unroll
      for (float& x : same) x = lane_sum<4>(x);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int after = lane.row_of(e) - lane.column_of(e);
      if (Decays && after == 0) own.value[e] = same[e / 2 % 2];
      if (RowsAreQueries ? after < 0 : after > 0) own.value[e] = 0;
    }
  }

  /// Adds to the sums of the warp's tokens what their pairs say of the rows of the others.
  template <bool RowsAreQueries, int Width>
  __device__ void add_rows(Square (&sums)[Width / 16], Tile<chunk, Width>& rows, const WarpTokens& at) const {
    const auto add = [&](const Square& pairs, int row) {
      const Left<16> left = rounded(pairs);
#pragma unroll
      for (int c = 0; c < Width / 16; ++c) multiply_add(sums[c], left, rights(rows, row, c * 16));
    };
    add(own, at.own);
    if (at.near_late == RowsAreQueries) add(near, at.near);
    if (at.far_late == RowsAreQueries) {
      add(far[0], at.far);
      add(far[1], at.far + 16);
    }
  }
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
  /// Where slab n of the state at the end of a chunk lies; the last chunk has none.
  __device__ std::size_t state(int end, int n) const {
    return ((static_cast<std::size_t>(sequence) * S::heads + head) * ends + end) * Padded<S>::state_numbers +
           n * Padded<S>::slab_numbers;
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

/// Adds the products of a slab of queries and keys to `pairs`. Returns the queries as the state at the chunk's start
/// sees them.
template <class S>
__device__ inline Left<16> multiply_slab(Slab<S, 1>& now, Exchange& exchange, const WarpTokens& at, Pairs& pairs) {
  const Left<16> query = now.query.template left<16>(at.own, 0);
  if constexpr (S::decay == Decay::none) {
    multiply_add(pairs.own, query, rights_of_rows(now.key, at.own, 0));
    if (at.near_late) multiply_add(pairs.near, query, rights_of_rows(now.key, at.near, 0));
    if (at.far_late)
#pragma unroll
      for (int j = 0; j < 2; ++j) multiply_add(pairs.far[j], query, rights_of_rows(now.key, at.far + j * 16, 0));
    return query;
  } else {
    const Square q = unpacked(query);
    const Square k = unpacked(now.key.template left<16>(at.own, 0));
    Factors f(unpacked(now.decay.template left<16>(at.own, 0)));
#pragma unroll
    for (int e = 0; e < 8; ++e) pairs.same[e / 2 % 2] += q.value[e] * k.value[e];
    add_pairs<0>(pairs.own, weighed(InWarp<0>(), q, k, f));
    f.join<0>();
    add_pairs<1>(pairs.own, weighed(InWarp<1>(), q, k, f));
    f.join<1>();
    add_pairs<2>(pairs.own, weighed(InWarp<2>(), q, k, f));
    f.join<2>();
    add_pairs<3>(pairs.own, weighed(InWarp<3>(), q, k, f));
    f.join<3>();

    const OfWarp near{at.near_late};
    const Left<16> for_near = weighed(near, q, k, f);
    store_left(exchange.near, at.own, for_near);
    exchange.put_decay(at.warp, f);
    __syncthreads();
    if (at.near_late) multiply_add(pairs.near, for_near, rights_of_rows(exchange.near, at.near, 0));
    f.join(near, exchange.decay[at.warp ^ 1]);

    const OfWarp far{at.far_late};
    const Left<16> for_far = weighed(far, q, k, f);
    store_left(exchange.far, at.own, for_far);
    f.join(far, exchange.decay[at.warp ^ 2], exchange.decay[at.warp ^ 3]);
    __syncthreads();
    if (at.far_late)
#pragma unroll
      for (int j = 0; j < 2; ++j) multiply_add(pairs.far[j], for_far, rights_of_rows(exchange.far, at.far + j * 16, 0));
    return weighed(OfWarp{true}, q, k, f);
  }
}

/// Grid: (chunks, heads, batch). `states` are those at the ends of chunks.
template <class S>
__global__ void __launch_bounds__(threads, 3)
    outputs(Operands<S> o, const BFloat16* states, Results to, int length, float scale) {
  using P = Padded<S>;
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<ForwardMemory<S>*>(dynamic_memory);
  const Sources<S> from(o, length);
  const WarpTokens at;
  const auto load = [&](int n) {
    Slab<S, 1>& slab = memory.slabs[n % 2];
    const bool here = from.index > 0;
    from.load(slab, n);
    load_state(slab.state[0], states + (here ? from.state(from.index - 1, n) : 0), here);
  };
  fill_last_columns<S, false>(memory.values);
  load_rows<S::value_chunk, S::value, S::value>(memory.values, from.value, from.first(), 0);
  load(0);
  commit_copies();

  Pairs pairs;
  Square sums[P::values / 16];
  for (int n = 0; n < P::slabs; ++n) {
    wait_for_copies<0>();
    __syncthreads();
    if (n + 1 < P::slabs) load(n + 1);
    commit_copies();
    Slab<S, 1>& now = memory.slabs[n % 2];
    const Left<16> query = multiply_slab(now, memory.exchange, at, pairs);
#pragma unroll
    for (int c = 0; c < P::values / 16; ++c) multiply_add(sums[c], query, rights_of_rows(now.state[0], c * 16, 0));
  }
  pairs.finish<S::decay != Decay::none, true>();
  pairs.add_rows<true>(sums, memory.values, at);
  __syncthreads();
  store_values<S, S::output_chunk, S::normaliser>(sums, scale, to, from, memory.values, at.own);
}

}  // namespace mad::cuda::recurrence_chunks
