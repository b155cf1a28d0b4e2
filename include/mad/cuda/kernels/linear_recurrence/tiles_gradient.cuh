// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of a recurrence with narrow heads, tile by tile. A warp goes through its sequence twice: forwards for
/// the states at the starts of tiles, which it keeps, and backwards with the gradient of the state at a tile's end. The
/// formulas are those of a chunk (chunks_gradient.cuh). With a bonus u, q_t sees the decays up to
/// w_{t-1}, so that the terms of q_t are summed over t > u in the gradient of the log decay at token u; and
///
///     dq_t = ... + scale D[t,t] u k_t,   dk_t = ... + scale D[t,t] u q_t,   du = scale sum_t D[t,t] q_t k_t
#pragma once

#include <mad/cuda/kernels/linear_recurrence/tiles_forward.cuh>

namespace mad::cuda::recurrence_tiles {

using recurrence_chunks::Gradients;
using recurrence_chunks::OwnValuePairs;
using recurrence_chunks::SlabGradients;
using recurrence_detail::Wanted;

/// Where the gradients of what all tokens share go: a row of (heads, key channels) for each sequence.
struct SharedGradients {
  float* decay;
  float* bonus;
};

/// The states at the starts of all tiles but the first, of all heads: 32 lanes' parts.
struct States {
  uint4* data;
  int per_head;

  __device__ uint4* at(const Head& head, int i) const {
    return data + (static_cast<std::size_t>(head.index) * per_head + i - 1) * 32 + threadIdx.x % 32;
  }
  __device__ void keep(const Head& head, int i, const Square& state) const {
    const Left<16> x = rounded(state);
    *at(head, i) = {x.part[0], x.part[1], x.part[2], x.part[3]};
  }
  __device__ Left<16> load(const Head& head, int i) const {
    if (i < 1) return {};
    const uint4 x = *at(head, i);
    return {{x.x, x.y, x.z, x.w}};
  }
};

/// What the warp reads for a tile on its way back.
struct LoadedTile {
  Left<16> query, key, value, gradient, decay, state;
};

/// The gradients of a tile's rows, without the scale: of log decays the terms that are summed over later tokens, those
/// of them that queries have, and what is the same for all tokens.
struct TileGradients {
  Square query, key, value, decay, of_queries;
  Columns passing;
};

/// The entries of a matrix off the diagonal.
__device__ inline Left<16> without_diagonal(const Left<16>& a) {
  const Lane lane;
  Left<16> b;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    const int after = lane.row_of(2 * p) - lane.column_of(2 * p);
    b.part[p] = a.part[p] & ~((after == 0 ? 0xffffu : 0u) | (after == 1 ? 0xffff0000u : 0u));
  }
  return b;
}

/// A head of one sequence.
template <class S, class W, class O>
class HeadGradient {
public:
  __device__ HeadGradient(const O& o, const Head& head, const States& states, int length)
      : head_(head),
        states_(states),
        length_(length),
        from_(o, head, length),
        d_output_(From::side(o, Side::d_output), From::stride(o, Side::d_output), head, length),
        normaliser_(From::side(o, Side::d_output) +
                    static_cast<std::size_t>(head.sequence) * length * From::stride(o, Side::d_output) +
                    S::heads * S::value + head.head) {
    if constexpr (S::bonus) bonus_ = load_columns<S::key>(o.bonus + head.head * S::key);
  }

  __device__ void run(const Gradients& to, const SharedGradients& shared, float scale) {
    const int last = (length_ - 1) / tile;
    keep_states(last);
    LoadedTile now = load(last);
    Square later;  // the gradient of the state, rows are values
#pragma unroll 1
    for (int i = last; i >= 0; --i) {
      const LoadedTile next = load(i > 0 ? i - 1 : 0);
      add_tile(now, later, to, i * tile, scale);
      now = next;
    }
    if constexpr (W::decay && !S::decay_per_token) store_columns(sum_rows(all_decays_), shared.decay, scale, passing_);
    if constexpr (W::bonus) store_columns(sum_rows(d_bonus_), shared.bonus, scale, Columns{});
  }

private:
  using From = Source<S, O>;
  static constexpr bool has_decay = S::decay != Decay::none;

  __device__ void keep_states(int last) const {
    Left<16> key = from_.key.load(0);
    Left<16> value = from_.load_value(0);
    Left<16> decay = from_.decay.load(0);
    Square state;
#pragma unroll 1
    for (int i = 0; i < last; ++i) {
      const Left<16> next_key = from_.key.load((i + 1) * tile);
      const Left<16> next_value = from_.load_value((i + 1) * tile);
      const Left<16> next_decay = from_.decay.load((i + 1) * tile);
      const MildDecays mild = from_.decay.mild(decay);
      if (!has_decay) {
        add_to_state(state, value, key);
      } else if (mild.are_mild) {
        add_to_state(state, value, weighed(key, mild.key));
        multiply(state, mild.all);
      } else {
        Factors f = from_.decay.factors(decay);
        f.join<0>();
        f.join<1>();
        f.join<2>();
        f.join<3>();
        multiply(state, f.all);
        add_to_state(state, value, weighed(key, f.after));
      }
      states_.keep(head_, i + 1, state);
      key = next_key;
      value = next_value;
      decay = next_decay;
    }
  }

  __device__ LoadedTile load(int i) const {
    const int first = i * tile;
    LoadedTile x{from_.query.load(first), from_.key.load(first),   from_.load_value(first),
                 d_output_.load(first),   from_.decay.load(first), states_.load(head_, i)};
    if constexpr (S::normaliser) {
      const auto number = [&](int t) -> std::uint32_t {
        return t < length_ ? *reinterpret_cast<const std::uint16_t*>(normaliser_ + t * d_output_.stride)
                           : std::uint16_t{0};
      };
      From::put_normaliser(x.gradient, number(first + Lane().row), number(first + Lane().row + 8));
    }
    return x;
  }

  /// Takes the gradient of the state from the tile's end to its start.
  __device__ void add_tile(const LoadedTile& x, Square& later, const Gradients& to, int first, float scale) {
    Square d, d_transposed;
    multiply_add(d, x.gradient, rights_of_rows(x.value));
    multiply_add(d_transposed, x.value, rights_of_rows(x.gradient));
    OwnValuePairs pairs_of_values;
    pairs_of_values.split(d, d_transposed);
    const MildDecays mild = from_.decay.mild(x.decay);
    TileGradients g;
    if (!has_decay || mild.are_mild)
      add_mild(x, pairs_of_values, mild, later, g);
    else
      add_any(x, pairs_of_values, later, g);
    store_keys(g.query, to.query, first, scale);
    store_keys(g.key, to.key, first, scale);
    store_rows<S::value_gradient_chunk, S::value>(g.value, scale, sequence(to.value) + head_.head * S::value,
                                                  to.value.stride, first, length_);
    if constexpr (W::decay && S::decay_per_token) {
      recurrence_chunks::sum_rows_below(g.decay);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int e = Columns::entry(i) + 2 * h;
          g.decay.value[e] += g.passing.value[i] - (S::bonus ? g.of_queries.value[e] : 0.0f);
        }
      store_keys(g.decay, to.decay, first, scale);
    }
    // The same added up over the tokens of the tile, of which token t's terms meet t + 1.
    if constexpr (W::decay && !S::decay_per_token) {
      const Lane lane;
#pragma unroll
      for (int e = 0; e < 8; ++e)
        all_decays_.value[e] +=
            static_cast<float>(lane.row_of(e) + 1) * g.decay.value[e] - (S::bonus ? g.of_queries.value[e] : 0.0f);
#pragma unroll
      for (int i = 0; i < 4; ++i) passing_.value[i] += tile * g.passing.value[i];
    }
  }

  /// Without decays, or with such as may be split at the tile's start: with q' = w_1 ... w_t q_t, k' = k_s / w_1 ...
  /// w_s and G' = w_1 ... w_16 G everything is as without decays. Of the log decays' gradients the terms of q_t are q'
  /// dq', those of k_s are k' dk', from the same rounded q' and k' as the pairs, so that what cancels cancels.
  __device__ void add_mild(const LoadedTile& x, const OwnValuePairs& d, const MildDecays& mild, Square& later,
                           TileGradients& g) {
    Left<16> query = x.query;
    Left<16> key = x.key;
    if constexpr (has_decay) {
      query = weighed(query, mild.query);
      key = weighed(key, mild.key);
      multiply(later, mild.all);
    }
    const Left<16> end = rounded(later);
    multiply_add(g.query, x.gradient, as_rights(x.state));
    multiply_add(g.key, x.value, as_rights(end));
    Square to_end;
    if constexpr (W::decay) to_end = g.key;
    multiply_add(g.query, S::bonus ? without_diagonal(d.own) : d.own, as_rights(key));
    multiply_add(g.key, S::bonus ? without_diagonal(d.own_transposed) : d.own_transposed, as_rights(query));
    Square pairs;  // P transposed: rows are keys
    multiply_add(pairs, key, rights_of_rows(query));
    float same[2];
    if constexpr (S::bonus) multiply_same<S>(same, x.query, x.key, bonus_);
    finish_pairs<S::bonus, false>(pairs, same);
    multiply_add(g.value, key, rights_of_rows(end));
    multiply_add(g.value, rounded(pairs), as_rights(x.gradient));
    if constexpr (W::decay) {
      const Square q = unpacked(query);
      const Square k = unpacked(key);
      const Square start = unpacked(x.state);
      Square passing;
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        g.of_queries.value[e] = q.value[e] * g.query.value[e];
        g.decay.value[e] = g.of_queries.value[e] - k.value[e] * g.key.value[e];
        passing.value[e] = k.value[e] * to_end.value[e] + start.value[e] * later.value[e];
      }
      g.passing = sum_rows(passing);
    }
    if constexpr (has_decay) {
      multiply(g.query, mild.query);
      multiply(g.key, mild.key);
    }
    if constexpr (S::bonus) add_bonus(x, d, g);
    add_to_state(later, x.gradient, query);
  }

  /// With decays of any strength, as in a chunk.
  __device__ void add_any(const LoadedTile& x, const OwnValuePairs& d, Square& later, TileGradients& to) {
    const Square q = unpacked(x.query);
    const Square k = unpacked(x.key);
    Factors f = from_.decay.factors(x.decay);
    const Left<16> end = rounded(later);
    Square of_state;     // S do
    Square of_gradient;  // G v
    multiply_add(of_state, x.gradient, as_rights(x.state));
    multiply_add(of_gradient, x.value, as_rights(end));
    Square pairs;
    SlabGradients g;
    g.add_bit<0>(pairs, d.of_bit[0], q, k, f);
    f.join<0>();
    g.add_bit<1>(pairs, d.of_bit[1], q, k, f);
    f.join<1>();
    g.add_bit<2>(pairs, d.of_bit[2], q, k, f);
    f.join<2>();
    g.add_bit<3>(pairs, d.of_bit[3], q, k, f);
    f.join<3>();
    float same[2];
    multiply_same<S>(same, x.query, x.key, bonus_);
    finish_pairs<true, false>(pairs, same);
    if constexpr (W::decay) to.passing = add_decay_terms(x, q, k, of_state, of_gradient, f, later, g);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      g.query.value[e] += f.before.value[e] * of_state.value[e];
      g.key.value[e] += f.after.value[e] * of_gradient.value[e];
    }
    to.query = g.query;
    to.key = g.key;
    to.decay = g.decay;
    to.of_queries = g.of_queries;
    add_bonus(x, d, to);
    multiply_add(to.value, weighed(x.key, f.after), rights_of_rows(end));
    multiply_add(to.value, rounded(pairs), as_rights(x.gradient));
    multiply(later, f.all);
    add_to_state(later, x.gradient, weighed(x.query, f.before));
  }

  /// What tokens get of themselves.
  __device__ void add_bonus(const LoadedTile& x, const OwnValuePairs& d, TileGradients& g) {
    const Square q = unpacked(x.query);
    const Square k = unpacked(x.key);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int e = Columns::entry(i) + 2 * h;
        const float weight = S::bonus ? bonus_.value[i] * d.same[h] : d.same[h];
        g.query.value[e] += weight * k.value[e];
        g.key.value[e] += weight * q.value[e];
        if constexpr (W::bonus) d_bonus_.value[e] += d.same[h] * q.value[e] * k.value[e];
      }
  }

  /// What passes the tile's ends. k_s y_s goes to the tokens behind s: to all, less those up to s. Returns the parts
  /// that are equal for all tokens.
  __device__ Columns add_decay_terms(const LoadedTile& x, const Square& q, const Square& k, const Square& of_state,
                                     const Square& of_gradient, const Factors& f, const Square& later,
                                     SlabGradients& g) const {
    Square to_end;
    Square through;  // from the tile's start to its end, by values
    const Square start = unpacked(x.state);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      to_end.value[e] = k.value[e] * f.after.value[e] * of_gradient.value[e];
      const float of_query = q.value[e] * f.before.value[e] * of_state.value[e];
      g.decay.value[e] += of_query - to_end.value[e];
      g.of_queries.value[e] += of_query;
      through.value[e] = to_end.value[e] + f.all.value[e] * start.value[e] * later.value[e];
    }
    return sum_rows(through);
  }

  __device__ BFloat16* sequence(const Results& to) const {
    return to.data + static_cast<std::size_t>(head_.sequence) * length_ * to.stride;
  }
  __device__ void store_keys(const Square& x, const Results& to, int first, float scale) const {
    store_rows<S::key_gradient_chunk, S::key>(x, scale, sequence(to) + head_.head * S::key, to.stride, first, length_);
  }
  __device__ void store_columns(const Columns& x, float* to, float scale, const Columns& more) const {
    const Lane lane;
    if (lane.row != 0) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = lane.column * 2 + i;
      if (c < S::key) to[head_.index * S::key + c] = scale * (x.value[i] + more.value[i]);
    }
  }

  Head head_;
  States states_;
  int length_;
  From from_;
  Rows<S::output_chunk, S::value> d_output_;
  const BFloat16* normaliser_;  ///< the head's column of the outputs' gradients, where there is one
  Columns bonus_{};
  Square d_bonus_;
  Square all_decays_;
  Columns passing_{};
};

/// Grid: a warp for each of `heads` heads of all sequences.
template <class S, class W, class O>
__global__ void __launch_bounds__(threads)
    gradients(O o, States states, Gradients to, SharedGradients shared, int heads, int length, float scale) {
  const Head head = Head::of_warp<S>();
  if (head.index >= heads) return;
  HeadGradient<S, W, O>(o, head, states, length).run(to, shared, scale);
}

}  // namespace mad::cuda::recurrence_tiles
