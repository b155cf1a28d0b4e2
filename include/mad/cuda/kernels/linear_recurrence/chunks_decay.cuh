// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Decays between the tokens of a chunk, as factors that are never above 1.
///
/// The product of the decays from a key s to a later query t must be split into a factor of the query and one of the
/// key to become part of a matrix product. Split at a place that is not between them one factor can be beyond any
/// bound. So pairs of tokens are sorted by the highest bit in which their numbers differ: at bit n they lie in the
/// two halves of a block of 2^(n+1) tokens, t in the late and s in the early half, and
///
///     w_{s+1} ... w_t = (w_m ... w_t) (w_{s+1} ... w_{m-1})        m the first token of the late half
///
/// A token is weighed once for every bit, as a query where it is late and as a key where it is early: x. The products
/// of queries with keys are those entries of x x^T that belong to the bit. Factors only ever get multiplied, so that
/// neither strong decays nor decays of 0 do any harm.
#pragma once

#include <mad/cuda/kernels/linear_recurrence/chunks_layout.cuh>

namespace mad::cuda::recurrence_chunks {

/// Does one thing to the numbers of tokens in late halves, another to those in early ones.
template <int Bit>
struct InWarp {
  template <class Late, class Early>
  __device__ void operator()(const Late& late, const Early& early) const {
    if constexpr (Bit == 3) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (e / 2 % 2 == 1)
          late(e);
        else
          early(e);
      }
    } else if ((Lane().row >> Bit) % 2 == 1) {
#pragma unroll
      for (int e = 0; e < 8; ++e) late(e);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) early(e);
    }
  }
};
/// The same where all tokens of a warp are in the same half.
struct OfWarp {
  bool is_late;
  template <class Late, class Early>
  __device__ void operator()(const Late& late, const Early& early) const {
    if (is_late) {
#pragma unroll
      for (int e = 0; e < 8; ++e) late(e);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) early(e);
    }
  }
};

/// Products of decays within blocks of tokens around each token of a slab of a warp.
struct Factors {
  Square before;  ///< from the first token of the block to this one
  Square after;   ///< behind this one to the last of the block
  Square all;     ///< of the block

  /// Of blocks of one token. With a bonus queries see the state from before their own token: `before` ends ahead of it.
  __device__ explicit Factors(const Square& log_decay, bool bonus = false) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      all.value[e] = tensor::power_of_two(1.44269504f * log_decay.value[e]);
      before.value[e] = bonus ? 1.0f : all.value[e];
      after.value[e] = 1;
    }
  }

  /// Joins blocks of 2^Bit of a warp's 16 tokens.
  template <int Bit>
  __device__ void join() {
    float other[8];
#pragma unroll
    for (int e = 0; e < 8; ++e)
      other[e] = Bit == 3 ? all.value[e ^ 2] : __shfl_xor_sync(0xffffffffu, all.value[e], 4 << (Bit % 3));
    join_with(InWarp<Bit>(), other);
  }
  /// Joins the blocks of warps; `decay` is that of the other block, or of its two halves, for each channel of the slab.
  template <class... Decays>
  __device__ void join(OfWarp place, const Decays&... decay) {
    const Lane lane;
    float other[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) other[e] = (decay[lane.column_of(e)] * ...);
    join_with(place, other);
  }

private:
  template <class Place>
  __device__ void join_with(const Place& place, const float (&other)[8]) {
    place([&](int e) { before.value[e] *= other[e]; }, [&](int e) { after.value[e] *= other[e]; });
#pragma unroll
    for (int e = 0; e < 8; ++e) all.value[e] *= other[e];
  }
};

/// True where entry e of a warp's 16 x 16 pairs belongs to `Bit`.
template <int Bit>
__device__ inline bool belongs(const Lane& lane, int e) {
  const bool across = e / 2 % 2 != e / 4;  // rows and columns in different halves
  if (Bit == 3) return across;
  return !across && (lane.row ^ (lane.column + e % 2)) >> Bit == 1;
}

/// Adds the entries of x x^T that belong to `Bit`.
template <int Bit>
__device__ inline void add_pairs(Square& pairs, const Left<16>& x) {
  const Lane lane;
  Square all;
  multiply_add(all, x, Rights{{{{x.part[0], x.part[2]}}, {{x.part[1], x.part[3]}}}});
#pragma unroll
  for (int e = 0; e < 8; ++e) pairs.value[e] += belongs<Bit>(lane, e) ? all.value[e] : 0.0f;
}

/// The entries of a matrix that belong to `Bit`.
template <int Bit>
__device__ inline Left<16> entries(const Left<16>& a) {
  const Lane lane;
  Left<16> b;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    const std::uint32_t mask =
        (belongs<Bit>(lane, 2 * p) ? 0xffffu : 0u) | (belongs<Bit>(lane, 2 * p + 1) ? 0xffff0000u : 0u);
    b.part[p] = a.part[p] & mask;
  }
  return b;
}

/// Products of 16 x 16 numbers in registers with others: a b.
__device__ inline Rights as_rights(const Left<16>& b) {
  return {{{{tensor::transposed(b.part[0]), tensor::transposed(b.part[1])}},
           {{tensor::transposed(b.part[2]), tensor::transposed(b.part[3])}}}};
}

/// Tokens as queries where they are late, as keys where they are early.
template <class Place>
__device__ inline Left<16> weighed(const Place& place, const Square& query, const Square& key, const Factors& f) {
  Square x;
  place([&](int e) { x.value[e] = query.value[e] * f.before.value[e]; },
        [&](int e) { x.value[e] = key.value[e] * f.after.value[e]; });
  return rounded(x);
}

/// What the warps of a block tell each other about a slab.
struct Exchange {
  Tile<chunk, slab> near;               ///< tokens weighed for bit 4, between neighbouring warps
  Tile<chunk, slab> far;                ///< for bit 5, between the first two warps and the last two
  float decay[chunk / own_rows][slab];  ///< of all 16 tokens of a warp

  __device__ void put_decay(int warp, const Factors& f) {
    const Lane lane;
    if (lane.row != 0) return;
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (e / 2 % 2 == 0) decay[warp][lane.column_of(e)] = f.all.value[e];
  }
};

/// A number for each of a lane's columns, in the order of the square's entries of the lane's first row.
struct Columns {
  float value[4];
  __device__ static constexpr int entry(int i) { return i / 2 * 4 + i % 2; }
};
/// Sums over rows, in all lanes.
__device__ inline Columns sum_rows(const Square& x) {
  Columns sum;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int e = Columns::entry(i);
    sum.value[i] = x.value[e] + x.value[e + 2];
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) sum.value[i] += __shfl_xor_sync(0xffffffffu, sum.value[i], offset);
  }
  return sum;
}

/// Replaces rows by sums of them and all rows below.
__device__ inline void sum_rows_below(Square& x) {
  const Lane lane;
#pragma unroll
  for (int offset = 1; offset < 8; offset *= 2) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float below = __shfl_down_sync(0xffffffffu, x.value[e], 4 * offset);
      x.value[e] += lane.row + offset < 8 ? below : 0.0f;
    }
  }
#pragma unroll
  for (int e = 0; e < 8; ++e)
    if (e / 2 % 2 == 0) x.value[e] += __shfl_sync(0xffffffffu, x.value[e + 2], lane.column / 2);
}

}  // namespace mad::cuda::recurrence_chunks
