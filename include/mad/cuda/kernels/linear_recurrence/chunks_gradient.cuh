// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of a chunk, from the state S at its start and the gradient G, without the scale, of that at its end.
/// With P as in the forward pass, W[t,s] = w_{s+1} ... w_t per key channel, and D[t,s] = do_t . v_s for s <= t,
///
///     dq_t = scale (x_t + sum_s D[t,s] W[t,s] k_s)     x_t = w_1 ... w_t S do_t
///     dk_s = scale (y_s + sum_t D[t,s] W[t,s] q_t)     y_s = w_{s+1} ... w_C G v_s
///     dv_s = scale ((w_{s+1} ... w_C k_s) G + sum_t P[t,s] do_t)
///
/// The gradient of the log decay at token u sums what passes w_u on its way to an output:
///
///     da_u = scale (w_1 ... w_C rowsum(G * S) + sum_{s<u} k_s y_s + sum_{t>=u} q_t x_t
///                   + sum_{s<u<=t} D[t,s] q_t W[t,s] k_s)
///
/// in which the last sum is that of t's terms in q_t dq_t - k_t dk_t over all t >= u, those of t = s left out. D counts
/// as symmetric: a token z weighed for one bit of its number (chunks_decay.cuh) gets r = sum D z of
/// the others, its part of dq where it is late and of dk where it is early, but for the factor that it was weighed
/// with. The sums of z * r over the late and the early half of a block are equal to the last bits, so that nothing is
/// lost where they cancel.
#pragma once

#include <mad/cuda/kernels/linear_recurrence/chunks_forward.cuh>

namespace mad::cuda::recurrence_chunks {

/// What the warps tell each other about the gradient of a slab of log decays: a warp's part of it for its own tokens
/// and later ones, and for the tokens of earlier warps.
struct DecayExchange {
  float2 part[2][chunk / own_rows][slab / 2];
};

template <class S>
struct GradientMemory {
  Tile<chunk, Padded<S>::values> values, gradients;
  Slab<S, 2> slabs[2];
  Exchange exchange;
  DecayExchange decays;
};

/// Where gradients go.
struct Gradients {
  Results query, key, value, decay;
};

/// D of a warp's tokens with each other.
struct OwnValuePairs {
  Left<16> own;             ///< D for s <= t, otherwise 0
  Left<16> own_transposed;  ///< D for t >= s, otherwise 0
  Left<16> of_bit[4];       ///< D + its transpose, off the diagonal, by the bit that pairs belong to
  float same[2];            ///< D[t,t] of the lane's rows

  /// From all products of outputs' gradients with values, and their transpose.
  __device__ void split(Square d, Square d_transposed) {
    const Lane lane;
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
  }
};

/// D of a warp's tokens with those of the chunk, its transpose where the warp's are the earlier ones.
struct ValuePairs : OwnValuePairs {
  Left<16> near, far[2];

  template <int Width>
  __device__ ValuePairs(Tile<chunk, Width>& values, Tile<chunk, Width>& gradients, const WarpTokens& at) {
    auto& near_left = at.near_late ? gradients : values;
    auto& near_right = at.near_late ? values : gradients;
    auto& far_left = at.far_late ? gradients : values;
    auto& far_right = at.far_late ? values : gradients;
    Square d, d_transposed, d_near, d_far[2];
#pragma unroll
    for (int c = 0; c < Width; c += 16) {
      multiply_add(d, gradients.template left<16>(at.own, c), rights_of_rows(values, at.own, c));
      multiply_add(d_transposed, values.template left<16>(at.own, c), rights_of_rows(gradients, at.own, c));
      multiply_add(d_near, near_left.template left<16>(at.own, c), rights_of_rows(near_right, at.near, c));
      const Left<16> left = far_left.template left<16>(at.own, c);
#pragma unroll
      for (int j = 0; j < 2; ++j) multiply_add(d_far[j], left, rights_of_rows(far_right, at.far + j * 16, c));
    }
    split(d, d_transposed);
    near = rounded(d_near);
    far[0] = rounded(d_far[0]);
    far[1] = rounded(d_far[1]);
  }
};

/// The gradients of a slab of a warp's queries, keys and log decays: of the last the terms that are summed over tokens,
/// and those of them that queries have.
struct SlabGradients {
  Square query, key, decay, of_queries;

  /// Adds what tokens get that were weighed to x: y.
  template <class Place>
  __device__ void add(const Place& place, const Left<16>& x, const Square& y, const Factors& f) {
    const Square r = unpacked(x);
    place(
        [&](int e) {
          decay.value[e] += r.value[e] * y.value[e];
          of_queries.value[e] += r.value[e] * y.value[e];
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

/// The gradients of one chunk, slab by slab.
template <class S, bool WithDecay>
class ChunkGradient {
public:
  __device__ ChunkGradient(GradientMemory<S>& memory, const Sources<S>& from, const Gradients& to, float scale)
      : memory_(memory), from_(from), to_(to), scale_(scale), d_(memory.values, memory.gradients, at_) {}

  __device__ void add_slab(int n) {
    Slab<S, 2>& now = memory_.slabs[n % 2];
    Square of_state;     // S do
    Square of_gradient;  // G v
#pragma unroll
    for (int c = 0; c < values; c += 16) {
      multiply_add(of_state, memory_.gradients.template left<16>(at_.own, c), rights(now.state[0], c, 0));
      multiply_add(of_gradient, memory_.values.template left<16>(at_.own, c), rights(now.state[1], c, 0));
    }
    SlabGradients g;
    Left<16> key;  // as the state at the chunk's end sees them
    if constexpr (S::decay == Decay::none) {
      key = now.key.template left<16>(at_.own, 0);
      g.query = of_state;
      g.key = of_gradient;
      add_pairs_of(now, key, g);
    } else {
      Columns passing;
      key = add_decayed_pairs_of(now, of_state, of_gradient, g, passing);
      if constexpr (WithDecay) {
        sum_over_later_tokens(g.decay, passing);
        store(g.decay, to_.decay, n);
      }
    }
    store(g.query, to_.query, n);
    store(g.key, to_.key, n);
#pragma unroll
    for (int c = 0; c < values / 16; ++c) multiply_add(d_value_[c], key, rights_of_rows(now.state[1], c * 16, 0));
  }

  /// Once all slabs are there.
  __device__ void store_value_gradients() {
    pairs_.finish<S::decay != Decay::none, false>();
    pairs_.add_rows<false>(d_value_, memory_.gradients, at_);
    __syncthreads();
    store_values<S, S::value_gradient_chunk, false>(d_value_, scale_, to_.value, from_, memory_.gradients, at_.own);
  }

private:
  static constexpr int values = Padded<S>::values;

  __device__ void add_pairs_of(Slab<S, 2>& now, const Left<16>& key, SlabGradients& g) {
    multiply_add(pairs_.own, key, rights_of_rows(now.query, at_.own, 0));
    multiply_add(g.query, d_.own, rights(now.key, at_.own, 0));
    multiply_add(g.key, d_.own_transposed, rights(now.query, at_.own, 0));
    if (at_.near_late) {
      multiply_add(g.query, d_.near, rights(now.key, at_.near, 0));
    } else {
      multiply_add(g.key, d_.near, rights(now.query, at_.near, 0));
      multiply_add(pairs_.near, key, rights_of_rows(now.query, at_.near, 0));
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = at_.far + j * 16;
      if (at_.far_late) {
        multiply_add(g.query, d_.far[j], rights(now.key, row, 0));
      } else {
        multiply_add(g.key, d_.far[j], rights(now.query, row, 0));
        multiply_add(pairs_.far[j], key, rights_of_rows(now.query, row, 0));
      }
    }
  }

  __device__ Left<16> add_decayed_pairs_of(Slab<S, 2>& now, const Square& of_state, const Square& of_gradient,
                                           SlabGradients& g, Columns& passing) {
    Exchange& exchange = memory_.exchange;
    const Square q = unpacked(now.query.template left<16>(at_.own, 0));
    const Square k = unpacked(now.key.template left<16>(at_.own, 0));
    Factors f(unpacked(now.decay.template left<16>(at_.own, 0)));
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      pairs_.same[e / 2 % 2] += q.value[e] * k.value[e];
      g.query.value[e] = d_.same[e / 2 % 2] * k.value[e];
      g.key.value[e] = d_.same[e / 2 % 2] * q.value[e];
    }
    g.add_bit<0>(pairs_.own, d_.of_bit[0], q, k, f);
    f.join<0>();
    g.add_bit<1>(pairs_.own, d_.of_bit[1], q, k, f);
    f.join<1>();
    g.add_bit<2>(pairs_.own, d_.of_bit[2], q, k, f);
    f.join<2>();
    g.add_bit<3>(pairs_.own, d_.of_bit[3], q, k, f);
    f.join<3>();

    const OfWarp near{at_.near_late};
    const Left<16> for_near = weighed(near, q, k, f);
    store_left(exchange.near, at_.own, for_near);
    exchange.put_decay(at_.warp, f);
    __syncthreads();
    Square of_near;
    multiply_add(of_near, d_.near, rights(exchange.near, at_.near, 0));
    g.add(near, for_near, of_near, f);
    if (!at_.near_late) multiply_add(pairs_.near, for_near, rights_of_rows(exchange.near, at_.near, 0));
    f.join(near, exchange.decay[at_.warp ^ 1]);

    const OfWarp far{at_.far_late};
    const Left<16> for_far = weighed(far, q, k, f);
    store_left(exchange.far, at_.own, for_far);
    Factors whole = f;  // of the chunk
    whole.join(far, exchange.decay[at_.warp ^ 2], exchange.decay[at_.warp ^ 3]);
    if constexpr (WithDecay) passing = add_decay_terms(now, q, k, of_state, of_gradient, whole, g.decay);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      g.query.value[e] += whole.before.value[e] * of_state.value[e];
      g.key.value[e] += whole.after.value[e] * of_gradient.value[e];
    }
    const Left<16> key = weighed(OfWarp{false}, q, k, whole);
    __syncthreads();
    Square of_far;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      multiply_add(of_far, d_.far[j], rights(exchange.far, at_.far + j * 16, 0));
      if (!at_.far_late) multiply_add(pairs_.far[j], for_far, rights_of_rows(exchange.far, at_.far + j * 16, 0));
    }
    g.add(far, for_far, of_far, f);
    return key;
  }

  /// What passes the chunk's ends. k_s y_s goes to the tokens behind s: to all, less those up to s. Returns the parts
  /// that are equal for all tokens, of the lane's columns.
  __device__ Columns add_decay_terms(Slab<S, 2>& now, const Square& q, const Square& k, const Square& of_state,
                                     const Square& of_gradient, const Factors& whole, Square& terms) {
    Square to_end;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      to_end.value[e] = k.value[e] * whole.after.value[e] * of_gradient.value[e];
      terms.value[e] += q.value[e] * whole.before.value[e] * of_state.value[e] - to_end.value[e];
    }
    Columns sum = sum_rows(to_end);
    float through[2];  // from the chunk's start to its end
    sum_values(now.state[0], now.state[1], at_.warp, through);
    const Lane lane;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int e = Columns::entry(i);
      sum.value[i] += whole.all.value[e] * __shfl_sync(0xffffffffu, through[i % 2], lane.column_of(e) / 2);
    }
    return sum;
  }

  __device__ void sum_over_later_tokens(Square& terms, const Columns& passing) {
    const Lane lane;
    auto& part = memory_.decays.part;
    sum_rows_below(terms);
    if (lane.row == 0) {
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const int e = Columns::entry(i);
        const int column = lane.column_of(e) / 2;
        const float2 p{passing.value[i], passing.value[i + 1]};
        part[0][at_.warp][column] = p;
        part[1][at_.warp][column] = {p.x + terms.value[e], p.y + terms.value[e + 1]};
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const int e = Columns::entry(i);
      float2 rest{0, 0};
#pragma unroll
      for (int w = 0; w < chunk / own_rows; ++w) {
        const float2 p = part[w > at_.warp][w][lane.column_of(e) / 2];
        rest.x += p.x;
        rest.y += p.y;
      }
#pragma unroll
      for (int h = 0; h < 4; h += 2) {
        terms.value[e + h] += rest.x;
        terms.value[e + h + 1] += rest.y;
      }
    }
  }

  __device__ void store(const Square& x, const Results& to, int n) const {
    const Lane lane;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int t = from_.first() + at_.own + lane.row_of(2 * h);
      BFloat16* row = from_.row(to, t) + from_.head * S::key;
      if (t >= from_.query.tokens) continue;
#pragma unroll
      for (int e = 2 * h; e < 8; e += 4)
        store_two<S::key_gradient_chunk>(row, n * slab + lane.column_of(e), S::key, scale_ * x.value[e],
                                         scale_ * x.value[e + 1]);
    }
  }

  GradientMemory<S>& memory_;
  const Sources<S>& from_;
  const Gradients& to_;
  float scale_;
  WarpTokens at_;
  ValuePairs d_;
  Pairs pairs_;  ///< rows are keys
  Square d_value_[values / 16];
};

/// Grid: (chunks, heads, batch). `states` and `state_gradients` are those at the ends of chunks.
template <class S, bool WithDecay>
__global__ void __launch_bounds__(threads)
    gradients(Operands<S> o, const BFloat16* states, const BFloat16* state_gradients, Gradients to, int length,
              float scale) {
  extern __shared__ float4 dynamic_memory[];
  auto& memory = *reinterpret_cast<GradientMemory<S>*>(dynamic_memory);
  const Sources<S> from(o, length);
  const Rows d_output = rows_of<Side::d_output, S>(o, from.sequence, from.head, length);
  const auto load = [&](int n) {
    Slab<S, 2>& slab = memory.slabs[n % 2];
    const bool begins = from.index == 0;
    const bool ends = from.index == from.ends;
    from.load(slab, n);
    load_state(slab.state[0], states + (begins ? 0 : from.state(from.index - 1, n)), !begins);
    load_state(slab.state[1], state_gradients + (ends ? 0 : from.state(from.index, n)), !ends);
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

  ChunkGradient<S, WithDecay> gradient(memory, from, to, scale);
  for (int n = 0; n < Padded<S>::slabs; ++n) {
    wait_for_copies<0>();
    __syncthreads();
    if (n + 1 < Padded<S>::slabs) load(n + 1);
    commit_copies();
    gradient.add_slab(n);
  }
  gradient.store_value_gradients();
}

}  // namespace mad::cuda::recurrence_chunks
