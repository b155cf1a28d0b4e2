// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The outputs of a recurrence with narrow heads, tile by tile, from the state S at a tile's start:
///
///     P[t,s] = sum_d q_{t,d} w_{s+1,d} ... w_{t,d} k_{s,d}   for s <= t
///     o_t = scale ((w_1 ... w_t q_t) S + sum_s P[t,s] v_s)
///
/// With a bonus u decays go to w_{t-1}, and P[t,t] = sum_d u_d q_{t,d} k_{t,d}.
#pragma once

#include <mad/cuda/kernels/linear_recurrence/tiles.cuh>

namespace mad::cuda::recurrence_tiles {

using recurrence_chunks::add_pairs;
using recurrence_chunks::InWarp;
using recurrence_chunks::Results;

/// Leaves 0 above the diagonal, and with Diagonal puts `same`, of the lane's rows, on it.
template <bool Diagonal, bool RowsAreQueries>
__device__ inline void finish_pairs(Square& pairs, float (&same)[2]) {
  const Lane lane;
#pragma unroll
  for (float& x : same) x = Diagonal ? lane_sum<4>(x) : 0.0f;
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const int after = lane.row_of(e) - lane.column_of(e);
    if (Diagonal && after == 0) pairs.value[e] = same[e / 2 % 2];
    if (RowsAreQueries ? after < 0 : after > 0) pairs.value[e] = 0;
  }
}

/// Of the lane's rows: their products with themselves, over the lane's columns, each times the bonus where there is
/// one.
template <class S>
__device__ inline void multiply_same(float (&same)[2], const Left<16>& query, const Left<16>& key,
                                     const Columns& bonus) {
  const Square q = unpacked(query);
  const Square k = unpacked(key);
#pragma unroll
  for (int h = 0; h < 2; ++h) same[h] = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int e = Columns::entry(i) + 2 * h;
      same[h] += (S::bonus ? bonus.value[i] * q.value[e] : q.value[e]) * k.value[e];
    }
}

/// The pairs of a tile whose decays are of any strength. Weighs queries and keys for the states at the tile's ends.
template <class S>
__device__ inline Square multiply_pairs(Left<16>& query, Left<16>& key, Factors& f, const Columns& bonus) {
  const Square q = unpacked(query);
  const Square k = unpacked(key);
  Square pairs;
  add_pairs<0>(pairs, recurrence_chunks::weighed(InWarp<0>(), q, k, f));
  f.join<0>();
  add_pairs<1>(pairs, recurrence_chunks::weighed(InWarp<1>(), q, k, f));
  f.join<1>();
  add_pairs<2>(pairs, recurrence_chunks::weighed(InWarp<2>(), q, k, f));
  f.join<2>();
  add_pairs<3>(pairs, recurrence_chunks::weighed(InWarp<3>(), q, k, f));
  f.join<3>();
  float same[2];
  multiply_same<S>(same, query, key, bonus);
  finish_pairs<true, true>(pairs, same);
  query = weighed(query, f.before);
  key = weighed(key, f.after);
  return pairs;
}

/// Adds what the state says and what the pairs say to the outputs of a tile.
__device__ inline void add_outputs(Square& sums, const Square& state, const Left<16>& query, const Square& pairs,
                                   const Left<16>& value) {
  multiply_add(sums, query, rights_of_rows(rounded(state)));
  multiply_add(sums, rounded(pairs), as_rights(value));
}

/// Grid: a warp for each of `heads` heads of all sequences.
template <class S, class O>
__global__ void __launch_bounds__(threads) outputs(O o, Results to, int heads, int length, float scale) {
  const Head head = Head::of_warp<S>();
  if (head.index >= heads) return;
  const Source<S, O> from(o, head, length);
  Columns bonus{};
  if constexpr (S::bonus) bonus = load_columns<S::key>(o.bonus + head.head * S::key);
  BFloat16* rows = to.data + static_cast<std::size_t>(head.sequence) * length * to.stride;
  Left<16> query = from.query.load(0);
  Left<16> key = from.key.load(0);
  Left<16> value = from.load_value(0);
  Left<16> decay = from.decay.load(0);
  Square state;  // rows are values
#pragma unroll 1
  for (int first = 0; first < length; first += tile) {
    const int then = first + tile;
    const Left<16> next_query = from.query.load(then);
    const Left<16> next_key = from.key.load(then);
    const Left<16> next_value = from.load_value(then);
    const Left<16> next_decay = from.decay.load(then);
    Square sums;
    const MildDecays mild = from.decay.mild(decay);
    if (S::decay == Decay::none || mild.are_mild) {
      float same[2];
      if constexpr (S::bonus) multiply_same<S>(same, query, key, bonus);
      if constexpr (S::decay != Decay::none) {
        query = weighed(query, mild.query);
        key = weighed(key, mild.key);
      }
      Square pairs;
      multiply_add(pairs, query, rights_of_rows(key));
      finish_pairs<S::bonus, true>(pairs, same);
      add_outputs(sums, state, query, pairs, value);
      add_to_state(state, value, key);
      if constexpr (S::decay != Decay::none) multiply(state, mild.all);
    } else {
      Factors f = from.decay.factors(decay);
      const Square pairs = multiply_pairs<S>(query, key, f, bonus);
      add_outputs(sums, state, query, pairs, value);
      multiply(state, f.all);
      add_to_state(state, value, key);
    }
    store_rows<S::output_chunk, S::value>(sums, scale, rows + head.head * S::value, to.stride, first, length);
    if constexpr (S::normaliser) {
      const Lane lane;
      constexpr int e = Columns::entry(S::value % 4);
      if (lane.column * 2 == S::value / 4 * 4)
#pragma unroll
        for (int h = 0; h < 2; ++h)
          if (first + lane.row + 8 * h < length)
            rows[(first + lane.row + 8 * h) * to.stride + S::heads * S::value + head.head] =
                __float2bfloat16_rn(scale * sums.value[e + 2 * h]);
    }
    query = next_query;
    key = next_key;
    value = next_value;
    decay = next_decay;
  }
}

}  // namespace mad::cuda::recurrence_tiles
