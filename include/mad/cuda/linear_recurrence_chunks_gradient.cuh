// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of a chunk, from the state S at its start and the gradient G of that at its end. With P as in the
/// forward pass, W[t,s] = w_{s+1} ... w_t per key channel, and D[t,s] = do_t . v_s for s <= t,
///
///     dq_t = scale (w_1 ... w_t S do_t + sum_s D[t,s] W[t,s] k_s)
///     dk_s = scale (w_{s+1} ... w_C G v_s + sum_t D[t,s] W[t,s] q_t)
///     dv_s = scale ((w_{s+1} ... w_C k_s) G + sum_t P[t,s] do_t)
///
/// and the gradient of the log decay at token u sums what of the outputs passes w_u: with w_1 ... w_C rowsum(G * S),
///
///     da_u = w_1 ... w_C rowsum(G * S) + sum_{s<u} k_s dk_s of G + sum_{t>=u} q_t dq_t of S
///            + scale sum_{s<u<=t} D[t,s] q_t W[t,s] k_s
///
/// The last sum is that over all t >= u of t's terms of q_t dq_t - k_t dk_t, in which those of t = s are left out. D is
/// symmetrical for this purpose: a token x weighed for one bit of its number (linear_recurrence_chunks_decay.cuh)
/// gets y = sum D x of the others, which is its part of dq where it is late, and of dk where it is early, but for the
/// factor that it was weighed with; and both sums of x * y over a block's halves are the same to the last bits.
#pragma once

#include <mad/cuda/linear_recurrence_chunks_forward.cuh>

namespace mad::cuda::recurrence_chunks {

template <class S>
struct GradientMemory {
  Tile<chunk, Padded<S>::values> values, gradients;
  Slab<S, 2> slabs[2];
  Exchange exchange;
  float passing[chunk / own_rows][slab];  ///< of a warp's tokens or values: parts of da that are equal for all tokens
  float below[chunk / own_rows][slab];    ///< sums of the terms of da over a warp's tokens
};

/// Where gradients go.
struct Gradients {
  Results query, key, value, decay;
};

/// D of a warp's tokens with those of the chunk, its transpose where the warp's are the earlier ones.
template <class S>
struct ValuePairs {
  Left<16> own;             ///< D for s <= t, otherwise 0
  Left<16> own_transposed;  ///< D for t >= s, otherwise 0
  Left<16> of_bit[4];       ///< D + its transpose, off the diagonal, by the bit that pairs belong to
  float same[2];            ///< D[t,t] of the lane's rows
  Left<16> near, far[2];

  __device__ ValuePairs(GradientMemory<S>& memory, int warp) {
    const Lane lane;
    const int first = warp * own_rows;
    auto& near_left = warp % 2 == 1 ? memory.gradients : memory.values;
    auto& near_right = warp % 2 == 1 ? memory.values : memory.gradients;
    auto& far_left = warp >= 2 ? memory.gradients : memory.values;
    auto& far_right = warp >= 2 ? memory.values : memory.gradients;
    Square d, d_transposed, d_near, d_far[2];
#pragma unroll
    for (int c = 0; c < Padded<S>::values; c += 16) {
      multiply_add(d, memory.gradients.template left<16>(first, c), rights_of_rows(memory.values, first, c));
      multiply_add(d_transposed, memory.values.template left<16>(first, c), rights_of_rows(memory.gradients, first, c));
      multiply_add(d_near, near_left.template left<16>(first, c),
                   rights_of_rows(near_right, Pairs::near_from(warp), c));
      const Left<16> left = far_left.template left<16>(first, c);
#pragma unroll
      for (int j = 0; j < 2; ++j)
        multiply_add(d_far[j], left, rights_of_rows(far_right, Pairs::far_from(warp) + j * 16, c));
    }
    float diagonal[2]{};
    Square both;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int t = lane.row_of(e);
      const int s = lane.column_of(e);
      if (s == t) diagonal[e / 2 % 2] = d.value[e];
      both.value[e] = s == t ? 0.0f : s < t ? d.value[e] : d_transposed.value[e];
      if (s > t) d.value[e] = 0;
      if (s < t) d_transposed.value[e] = 0;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) same[h] = lane_sum<4>(diagonal[h]);
    own = rounded(d);
    own_transposed = rounded(d_transposed);
    const Left<16> symmetric = rounded(both);
    of_bit[0] = entries<0>(symmetric);
    of_bit[1] = entries<1>(symmetric);
    of_bit[2] = entries<2>(symmetric);
    of_bit[3] = entries<3>(symmetric);
    near = rounded(d_near);
    far[0] = rounded(d_far[0]);
    far[1] = rounded(d_far[1]);
  }
};

/// The gradients of a slab of a warp's queries, keys and log decays: of the last the terms that are summed over tokens.
struct SlabGradients {
  Square query, key, decay;

  /// Adds what tokens get that were weighed to x: y.
  template <class Place>
  __device__ void add(const Place& place, const Left<16>& x, const Square& y, const Factors& f) {
    const Square r = unpacked(x);
    place(
        [&](int e) {
          decay.value[e] += r.value[e] * y.value[e];
          query.value[e] += f.before.value[e] * y.value[e];
        },
        [&](int e) {
          decay.value[e] -= r.value[e] * y.value[e];
          key.value[e] += f.after.value[e] * y.value[e];
        });
  }
  template <int Bit>
  __device__ void add_bit(Square& pairs, const Left<16>& d, const Square& q, const Square& k, const Factors& f) {
    const Left<16> x = weighed(InWarp<Bit>(), q, k, f);
    add_pairs<Bit>(pairs, x);
    Square y;
    multiply_add(y, d, as_rights(x));
    add(InWarp<Bit>(), x, y, f);
  }

  template <class S>
  __device__ static void store(const Square& x, const Results& to, float scale, const Sources<S>& from, int t, int n) {
    const Lane lane;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const int token = t + lane.row_of(2 * p);
      if (token >= from.query.tokens) continue;
      store_two<S::key_gradient_chunk>(from.row(to, token) + from.head * S::key, n * slab + lane.column_of(2 * p),
                                       S::key, scale * x.value[2 * p], scale * x.value[2 * p + 1]);
    }
  }
};

/// rowsum(G * S) of a slab over a warp's share of the values: lane l has columns 2 (l mod 8) and the next.
template <int Values>
__device__ inline void sum_values(Tile<Values, slab>& a, Tile<Values, slab>& b, int warp, float (&sum)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = lane % 8 * 2;
  sum[0] = sum[1] = 0;
  for (int v = warp * 4 + lane / 8; v < Values; v += 16) {
    float x[2];
    float y[2];
    load(a.row(v) + column, x);
    load(b.row(v) + column, y);
#pragma unroll
    for (int j = 0; j < 2; ++j) sum[j] += x[j] * y[j];
  }
#pragma unroll
  for (int offset = 8; offset < 32; offset *= 2)
#pragma unroll
    for (int j = 0; j < 2; ++j) sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], offset);
}

/// Grid: (chunks, heads, batch). `states` and `state_gradients` are those at the ends of chunks.
template <class S, bool WithDecay>
__global__ void __launch_bounds__(threads)
    gradients(Operands<S> o, const BFloat16* states, const BFloat16* state_gradients, Gradients to, int length,
              float scale) {
  using P = Padded<S>;
  constexpr bool decays = S::decay != Decay::none;
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<GradientMemory<S>*>(dynamic_memory);
  Exchange& exchange = memory.exchange;
  const Sources<S> from(o, length);
  const Rows d_output = rows_of<Side::d_output, S>(o, from.sequence, from.head, length);
  const Lane lane;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int own = warp * own_rows;
  const int near = Pairs::near_from(warp);
  const int far = Pairs::far_from(warp);
  const bool near_late = warp % 2 == 1;
  const bool far_late = warp >= 2;
  const auto load = [&](int n) {
    Slab<S, 2>& to_slab = memory.slabs[n % 2];
    from.load(to_slab, n);
    const bool first = from.index == 0;
    const bool last = from.index == from.ends;
    load_state(to_slab.state[0], states + (first ? 0 : from.state(from.index - 1) + n * P::slab_numbers), !first);
    load_state(to_slab.state[1], state_gradients + (last ? 0 : from.state(from.index) + n * P::slab_numbers), !last);
  };
  fill_last_columns<S, false>(memory.values);
  fill_last_columns<S, true>(memory.gradients);
  __syncthreads();
  load_rows<S::value_chunk, S::value, S::value>(memory.values, from.value, from.first(), 0);
  load_rows<S::output_chunk, S::value, S::value>(memory.gradients, d_output, from.first(), 0);
  load_normaliser<S>(memory.gradients, d_output, from.head, from.first());
  load(0);
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();

  const ValuePairs<S> d(memory, warp);
  Pairs pairs;  // transposed: rows are keys
  float same[2]{};
  Square d_value[P::values / 16];
  for (int n = 0; n < P::slabs; ++n) {
    wait_for_copies<0>();
    __syncthreads();
    if (n + 1 < P::slabs) load(n + 1);
    commit_copies();
    Slab<S, 2>& now = memory.slabs[n % 2];
    Left<16> key = now.key.template left<16>(own, 0);
    Square of_state;     // S do
    Square of_gradient;  // G v
#pragma unroll
    for (int c = 0; c < P::values; c += 16) {
      multiply_add(of_state, memory.gradients.template left<16>(own, c), rights(now.state[0], c, 0));
      multiply_add(of_gradient, memory.values.template left<16>(own, c), rights(now.state[1], c, 0));
    }
    SlabGradients g;
    if constexpr (decays) {
      const Square q = unpacked(now.query.template left<16>(own, 0));
      const Square k = unpacked(key);
      Factors f(now.decay.template left<16>(own, 0));
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        same[e / 2 % 2] += q.value[e] * k.value[e];
        g.query.value[e] = d.same[e / 2 % 2] * k.value[e];
        g.key.value[e] = d.same[e / 2 % 2] * q.value[e];
      }
      g.add_bit<0>(pairs.own, d.of_bit[0], q, k, f);
      f.join<0>();
      g.add_bit<1>(pairs.own, d.of_bit[1], q, k, f);
      f.join<1>();
      g.add_bit<2>(pairs.own, d.of_bit[2], q, k, f);
      f.join<2>();
      g.add_bit<3>(pairs.own, d.of_bit[3], q, k, f);
      f.join<3>();
      const Left<16> x = weighed(OfWarp{near_late}, q, k, f);
      store_left(exchange.near, own, x);
      exchange.put_decay(warp, f);
      __syncthreads();
      Square y;
      multiply_add(y, d.near, rights(exchange.near, near, 0));
      if (!near_late) multiply_add(pairs.near, x, rights_of_rows(exchange.near, near, 0));
      g.add(OfWarp{near_late}, x, y, f);
      f.join(OfWarp{near_late}, exchange.decay[warp ^ 1]);
      const Left<16> z = weighed(OfWarp{far_late}, q, k, f);
      store_left(exchange.far, own, z);
      Factors whole = f;
      whole.join(OfWarp{far_late}, exchange.decay[warp ^ 2]);
      whole.join(OfWarp{far_late}, exchange.decay[warp ^ 3]);
      key = weighed(OfWarp{false}, q, k, whole);
      if constexpr (WithDecay) {
        Square passing;
#pragma unroll
        for (int e = 0; e < 8; ++e) passing.value[e] = k.value[e] * whole.after.value[e] * of_gradient.value[e];
#pragma unroll
        for (int e = 0; e < 8; ++e)
          g.decay.value[e] += q.value[e] * whole.before.value[e] * of_state.value[e] - passing.value[e];
        float sum[4];
        sum_rows(passing, sum);
        float of_states[2];
        sum_values(now.state[0], now.state[1], warp, of_states);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = lane.column_of(i / 2 * 4 + i % 2);
          const float s = __shfl_sync(0xffffffffu, of_states[i % 2], column / 2);
          if (lane.row == 0) memory.passing[warp][column] = sum[i] + whole.all.value[i / 2 * 4 + i % 2] * s;
        }
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        g.query.value[e] += whole.before.value[e] * of_state.value[e];
        g.key.value[e] += whole.after.value[e] * of_gradient.value[e];
      }
      __syncthreads();
      Square of_far;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        multiply_add(of_far, d.far[j], rights(exchange.far, far + j * 16, 0));
        if (!far_late) multiply_add(pairs.far[j], z, rights_of_rows(exchange.far, far + j * 16, 0));
      }
      g.add(OfWarp{far_late}, z, of_far, f);
      if constexpr (WithDecay) {
        sum_rows_below(g.decay);
        if (lane.row == 0)
#pragma unroll
          for (int e = 0; e < 8; ++e)
            if (e / 2 % 2 == 0) memory.below[warp][lane.column_of(e)] = g.decay.value[e];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int e = i / 2 * 4 + i % 2;
          float rest = 0;
#pragma unroll
          for (int w = 0; w < chunk / own_rows; ++w) {
            rest += memory.passing[w][lane.column_of(e)];
            rest += w > warp ? memory.below[w][lane.column_of(e)] : 0.0f;
          }
          g.decay.value[e] += rest;
          g.decay.value[e + 2] += rest;
        }
        SlabGradients::store(g.decay, to.decay, scale, from, from.first() + own, n);
      }
    } else {
      g.query = of_state;
      g.key = of_gradient;
      multiply_add(pairs.own, key, rights_of_rows(now.query, own, 0));
      multiply_add(g.query, d.own, rights(now.key, own, 0));
      multiply_add(g.key, d.own_transposed, rights(now.query, own, 0));
      if (near_late) {
        multiply_add(g.query, d.near, rights(now.key, near, 0));
      } else {
        multiply_add(g.key, d.near, rights(now.query, near, 0));
        multiply_add(pairs.near, key, rights_of_rows(now.query, near, 0));
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (far_late) {
          multiply_add(g.query, d.far[j], rights(now.key, far + j * 16, 0));
        } else {
          multiply_add(g.key, d.far[j], rights(now.query, far + j * 16, 0));
          multiply_add(pairs.far[j], key, rights_of_rows(now.query, far + j * 16, 0));
        }
      }
    }
    SlabGradients::store(g.query, to.query, scale, from, from.first() + own, n);
    SlabGradients::store(g.key, to.key, scale, from, from.first() + own, n);
#pragma unroll
    for (int c = 0; c < P::values / 16; ++c) multiply_add(d_value[c], key, rights_of_rows(now.state[1], c * 16, 0));
  }

  if constexpr (decays)
#pragma unroll
    for (float& x : same) x = lane_sum<4>(x);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    if (decays && lane.row_of(e) == lane.column_of(e)) pairs.own.value[e] = same[e / 2 % 2];
    if (lane.row_of(e) > lane.column_of(e)) pairs.own.value[e] = 0;
  }
  const auto mix = [&](const Square& p, int row) {
    const Left<16> left = rounded(p);
#pragma unroll
    for (int c = 0; c < P::values / 16; ++c) multiply_add(d_value[c], left, rights(memory.gradients, row, c * 16));
  };
  mix(pairs.own, own);
  if (!near_late) mix(pairs.near, near);
  if (!far_late) {
    mix(pairs.far[0], far);
    mix(pairs.far[1], far + 16);
  }
  __syncthreads();
  store_values<S, S::value_gradient_chunk, false>(d_value, scale, to.value, from, memory.gradients, own);
}

}  // namespace mad::cuda::recurrence_chunks
