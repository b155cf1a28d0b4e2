// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The inner part of the gradient of attention in narrow heads: blocks of keys in the registers of warps, and the
/// queries that pass by.
#pragma once

#include <mad/cuda/kernels/attention/narrow_course.cuh>
#include <mad/cuda/kernels/attention/narrow_rows.cuh>

#include <cstdint>

namespace mad::cuda::attention_narrow {

/// Where rows of queries are in shared memory. Each of the arrays leaves 16 bytes or more out between heads, as
/// `Share::row` does.
template <int Width>
struct QueryRows {
  BFloat16* query;  ///< do is `Memory::apart` behind
  float* d_query;   ///< by lane, as the tensor cores give sums
  /// Of queries a, b and c, d eight behind: a, b, a, b, c, d, c, d.
  Half* minus_lse;    ///< in powers of two
  Half* minus_delta;  ///< delta_t = do_t.o_t

  __device__ QueryRows of_head(int slot, int rows) const {
    return {query + slot * (rows + 1) * stride<Width>, d_query + slot * (rows * Width + 4),
            minus_lse + slot * (rows * 2 + 8), minus_delta + slot * (rows * 2 + 8)};
  }
  /// The lane's numbers of 16 rows.
  __device__ QueryRows of_lane(int apart) const {
    const unsigned lane = threadIdx.x % 32;
    return {query + offset_of_lane<Width>(apart), d_query + lane * 4, minus_lse + lane % 4 * 8,
            minus_delta + lane % 4 * 8};
  }
};

/// A load of rows: keys [chunk, chunk_end) and the queries [loaded, loaded_end) of a head of those that share them.
struct Load {
  int chunk, chunk_end;
  int member;
  int loaded, loaded_end;

  /// True if the keys are loaded as well.
  __device__ bool is_first() const { return member == 0 && loaded == chunk; }
  /// Behind the last query that sees a key of the chunk.
  __device__ int end(const AttentionSizes& n) const { return min(n.length, chunk_end + n.window); }
};

/// What rows in shared memory were divided by, all powers of two.
struct Powers {
  float key, value, gradient;
};

/// What all threads know of the rows in shared memory.
struct Known {
  Load at;
  Powers powers;
};

/// What is in shared memory.
template <int Width>
struct Memory {
  static constexpr int warps = Backward<Width>::warps;
  /// Bytes of a row, and of what is between heads.
  static constexpr int row_bytes = 4 * stride<Width> * 2 + Width * 4 + 2 * 2 * 2;
  static constexpr int head_bytes = 4 * stride<Width> * 2 + 3 * 16;
  static constexpr int scratch_bytes = 4 * warps * 4 + static_cast<int>(sizeof(Known));

  float (&scratch)[4][warps];
  Known* known;
  int apart;  ///< values from keys and do from queries
  BFloat16* keys;
  BFloat16* values;
  BFloat16* gradients;  ///< do
  QueryRows<Width> queries;

  __device__ Memory(float4* begin, const Share<warps>& share)
      : scratch(*reinterpret_cast<float (*)[4][warps]>(begin)),
        known(reinterpret_cast<Known*>(begin + warps)),
        apart(share.all_rows() * stride<Width>),
        keys(reinterpret_cast<BFloat16*>(begin + scratch_bytes / 16)),
        values(keys + apart),
        gradients(keys + 3 * apart),
        queries{keys + 2 * apart} {
    const int rows = share.rows << share.shift;
    queries.d_query = reinterpret_cast<float*>(keys + 4 * apart);
    queries.minus_lse = reinterpret_cast<Half*>(queries.d_query + rows * Width + share.heads() * 4);
    queries.minus_delta = queries.minus_lse + rows * 2 + share.heads() * 8;
  }
};

/// Probabilities are multiplied by 2^8 and do is divided so that no row is longer than 2^6: neither these nor the
/// gradients of scores leave the range of halves.
inline constexpr float probability_unit = 256;
inline constexpr int log2_probability_unit = 8;
inline constexpr float gradient_length = 64;

/// Which of the four pairs of numbers of a lane in 16 x 16 scores get their power of two from the multipliers: the
/// others keep the special functions busy for 34 cycles, in which about 33 instructions are issued.
__device__ constexpr bool is_by_multipliers(int b) { return b == 1; }

/// 16 queries that pass by.
template <int Width>
struct PassingQueries {
  Matrices<Width> rows[2];     ///< q and do
  Matrices<Width> columns[2];  ///< transposed
  HalfSums minus_lse[2];
  HalfSums minus_delta[2];

  /// Queries `row` and so on of a head; the lane's.
  __device__ PassingQueries(const QueryRows<Width>& head, int row, int apart) {
    load_rows(head, row, apart);
    load_columns(head, row, apart);
  }
  /// All but the transposed ones.
  __device__ void load_rows(const QueryRows<Width>& head, int row, int apart) {
    load_twice_at<false>(head.query + row * stride<Width>, apart, rows);
    load_sums(head.minus_lse + row * 2, minus_lse);
    load_sums(head.minus_delta + row * 2, minus_delta);
  }
  __device__ void load_columns(const QueryRows<Width>& head, int row, int apart) {
    load_twice_at<true>(head.query + row * stride<Width>, apart, columns);
  }

private:
  static __device__ void load_sums(const Half* from, HalfSums (&to)[2]) {
    const uint4 four = *reinterpret_cast<const uint4*>(from);
    to[0] = {{four.x, four.y}};
    to[1] = {{four.z, four.w}};
  }
};

/// A block of keys of a warp.
template <int Width>
struct OwnKeys {
  static constexpr int tiles = Backward<Width>::tiles;

  Left<Width> key[tiles];
  Left<Width> value[tiles];
  Right<16> key_columns[tiles][Width / 8];
  Sums d_key[tiles][Width / 8];
  Sums d_value[tiles][Width / 8];

  /// Takes up the keys from a row of shared memory on, without any sums.
  __device__ void take(const Memory<Width>& memory, int row) {
#pragma unroll
    for (int j = 0; j < tiles; ++j) {
      Matrices<Width> m[2];
      load_twice<false>(memory.keys + (row + 16 * j) * stride<Width>, memory.apart, m);
      key[j] = m[0].left();
      value[j] = m[1].left();
      load_twice<true>(memory.keys + (row + 16 * j) * stride<Width>, memory.apart, m);
#pragma unroll
      for (int c = 0; c < Width / 8; ++c) {
        key_columns[j][c] = m[0].right(c);
        d_key[j][c] = {};
        d_value[j][c] = {};
      }
    }
  }
  /// The sums, as `keep` has kept them.
  __device__ void recall(const float4* kept) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < tiles; ++j)
#pragma unroll
      for (int c = 0; c < Width / 8; ++c) {
        load(reinterpret_cast<const float*>(kept + ((j * (Width / 8) + c) * 2) * 32 + lane), d_key[j][c].value);
        load(reinterpret_cast<const float*>(kept + ((j * (Width / 8) + c) * 2 + 1) * 32 + lane), d_value[j][c].value);
      }
  }
  __device__ void multiply(float by) {
#pragma unroll
    for (int j = 0; j < tiles; ++j)
#pragma unroll
      for (int c = 0; c < Width / 8; ++c)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          d_key[j][c].value[i] *= by;
          d_value[j][c].value[i] *= by;
        }
  }
  __device__ void keep(float4* kept) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < tiles; ++j)
#pragma unroll
      for (int c = 0; c < Width / 8; ++c) {
        store(reinterpret_cast<float*>(kept + ((j * (Width / 8) + c) * 2) * 32 + lane), d_key[j][c].value);
        store(reinterpret_cast<float*>(kept + ((j * (Width / 8) + c) * 2 + 1) * 32 + lane), d_value[j][c].value);
      }
  }

  /// Products of tile j with 16 queries, transposed: scores minus the log-sum-exp, and do.v minus delta.
  struct Products {
    HalfSums exponent[2];
    HalfSums d_score[2];

    __device__ Products(const OwnKeys& own, int j, const PassingQueries<Width>& queries) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        exponent[b] = queries.minus_lse[b];
        multiply_add_halves(exponent[b], own.key[j], queries.rows[0].right_of_rows(b));
        d_score[b] = queries.minus_delta[b];
        multiply_add_halves(d_score[b], own.value[j], queries.rows[1].right_of_rows(b));
      }
    }
  };

  /// Powers of two and gradients of scores of a tile and 16 queries, transposed: factors of the products for the
  /// three gradients.
  struct Factors {
    Left<16> mixing;
    Left<16> d_scores;

    /// With Masked not all queries see all keys: `distance` is that of the lane's first query from its first key.
    template <bool Masked>
    static __device__ Factors of(const Products& x, int distance, int window) {
      Factors f;
#pragma unroll
      for (int b = 0; b < 2; ++b)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          constexpr std::uint32_t unit = pair_of(0x1800);   // exponent_unit
          constexpr std::uint32_t shift = pair_of(0x2680);  // exponent_shift units
          std::uint32_t power = x.exponent[b].row[half];
          if (!Masked && is_by_multipliers(b)) {
            power = power_of_two(multiply_add_positive(power, unit, shift));
          } else {
            power = plain_power_of_two(power);
            if (Masked && !sees(distance + b * 8 - half * 8, window)) power &= 0xffff0000u;
            if (Masked && !sees(distance + b * 8 + 1 - half * 8, window)) power &= 0x0000ffffu;
          }
          f.mixing.part[2 * b + half] = power;
          f.d_scores.part[2 * b + half] = attention_narrow::multiply(x.d_score[b].row[half], power);
        }
      return f;
    }
  };

  /// What a tile and 16 queries add to the gradients of its keys and values.
  __device__ void add(int j, const Factors& f, const PassingQueries<Width>& queries) {
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) {
      multiply_add_halves(d_value[j][c], f.mixing, queries.columns[1].right(c));
      multiply_add_halves(d_key[j][c], f.d_scores, queries.columns[0].right(c));
    }
  }
  /// And to those of the queries, with `d_scores` transposed.
  __device__ void add_to_queries(Sums (&d_query)[Width / 8], int j, const Left<16>& d_scores) const {
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) multiply_add_halves(d_query[c], d_scores, key_columns[j][c]);
  }

  /// Queries `row` to `row` + 15 pass by, `ahead` of the block's first key; not all of them see all keys.
  __device__ void pass(const QueryRows<Width>& head, int apart, int row, int ahead, int window) {
    const PassingQueries<Width> queries(head, row, apart);
    Sums d_query[Width / 8];
    load_d_query(head, row, d_query);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int distance = ahead + lane % 4 * 2 - lane / 4;
#pragma unroll
    for (int j = 0; j < tiles; ++j) {
      Factors f;
      if (ahead >= 16 * j + 16 && ahead - 16 * j + 15 <= window)
        f = Factors::template of<false>(Products(*this, j, queries), 0, 0);
      else if (ahead >= 16 * j && ahead - 16 * j - 15 <= window)
        f = Factors::template of<true>(Products(*this, j, queries), distance - 16 * j, window);
      else
        continue;
      add(j, f, queries);
      add_to_queries(d_query, j, tensor::transposed(f.d_scores));
    }
    store_d_query(head, row, d_query);
  }

  /// The queries of a step pass by, from `row` on, all of which see all keys. What a warp waits for is asked for ahead:
  /// scores of a tile come before the powers of the one before, and products with transposed gradients of scores, which
  /// are late, behind those of the next one. To the three gradients this is all the same.
  __device__ void pass_step(const QueryRows<Width>& head, int apart, int row) {
    constexpr int count = Backward<Width>::step / 16 * tiles;
    PassingQueries<Width> queries(head, row, apart);
    Sums d_query[Width / 8];
    load_d_query(head, row, d_query);
    Products x(*this, 0, queries);
    Left<16> transposed{};
#pragma unroll
    for (int t = 0; t < count; ++t) {
      const int j = t % tiles;
      const int here = row + t / tiles * 16;
      const bool ends = t + 1 == count;
      Products next = x;
      if (!ends) next = Products(*this, (t + 1) % tiles, queries);
      if (j == tiles - 2 && t + 2 < count) queries.load_rows(head, here + 16, apart);
      const Factors f = Factors::template of<false>(x, 0, 0);
      const Left<16> next_transposed = tensor::transposed(f.d_scores);
      add(j, f, queries);
      if (j == tiles - 1 && !ends) queries.load_columns(head, here + 16, apart);
      if (t > 0) add_to_queries(d_query, (t - 1) % tiles, transposed);
      if (t > 0 && j == 0) {
        store_d_query(head, here - 16, d_query);
        load_d_query(head, here, d_query);
      }
      transposed = next_transposed;
      x = next;
    }
    add_to_queries(d_query, tiles - 1, transposed);
    store_d_query(head, row + Backward<Width>::step - 16, d_query);
  }

  /// The queries of a way pass by, of `rows` that there are; `ahead` is how far the first of all is ahead of the
  /// block's first key. All warps of the block come here for as many steps.
  __device__ void run(const QueryRows<Width>& of_lane, int apart, const Way& way, int rows, int ahead, int window) {
    using B = Backward<Width>;
    int place = way.first;
#pragma unroll 1
    for (int step = 0; step < way.steps; ++step) {
      const int first = place * B::step;
      if (first + B::step <= rows && ahead + first >= B::keys && ahead + first + B::step - 1 <= window) {
        pass_step(of_lane, apart, first);
      } else {
        const int behind = min(first + B::step, rows);
#pragma unroll 1
        for (int row = first; row < behind; row += 16)
          if (ahead + row >= 0 && ahead + row - (B::keys - 1) <= window) pass(of_lane, apart, row, ahead + row, window);
      }
      place += way.by;
      if (place == way.round) place = 0;
      meet();
    }
  }

private:
  static __device__ void load_d_query(const QueryRows<Width>& head, int row, Sums (&d_query)[Width / 8]) {
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) load(head.d_query + row * Width + c * 128, d_query[c].value);
  }
  static __device__ void store_d_query(const QueryRows<Width>& head, int row, const Sums (&d_query)[Width / 8]) {
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) store(head.d_query + row * Width + c * 128, d_query[c].value);
  }
};

}  // namespace mad::cuda::attention_narrow
