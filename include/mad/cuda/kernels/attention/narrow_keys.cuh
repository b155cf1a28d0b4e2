// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The inner part of the gradient of attention in narrow heads: blocks of keys in the registers of warps, and the
/// queries that pass by.
#pragma once

#include <mad/cuda/kernels/attention/narrow_rows.cuh>

#include <cstdint>

namespace mad::cuda::attention_narrow {

/// How the backward pass is cut. Rows are those of all heads of a block.
template <int Width>
struct Backward {
  static constexpr int warps = Width == 8 ? 8 : 4;
  static constexpr int threads = 32 * warps;
  static constexpr int tiles = 32 / Width;  ///< tiles of 16 keys of a block
  static constexpr int keys = 16 * tiles;   ///< of a block, which a warp has in registers; it takes two in turn
  static constexpr int step = keys / 2;     ///< queries between two barriers
  static constexpr int capacity = 2 * warps * keys;          ///< rows of keys, and of queries, if there is the memory
  static constexpr int loaded = capacity / threads;          ///< of them, those that a thread loads
  static constexpr int staged = Width == 8 ? 32 : 16;        ///< keys whose sums fit where the block's rows were
  static constexpr int blocks_at_once = Width == 8 ? 2 : 3;  ///< on a multiprocessor
};

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

/// What is in shared memory.
template <int Width>
struct Memory {
  static constexpr int warps = Backward<Width>::warps;
  /// Bytes of a row, and of what is between heads.
  static constexpr int row_bytes = 4 * stride<Width> * 2 + Width * 4 + 2 * 2 * 2;
  static constexpr int head_bytes = 4 * stride<Width> * 2 + 3 * 16;
  static constexpr int scratch_bytes = 4 * warps * 4;

  float (&scratch)[4][warps];
  int apart;  ///< values from keys and do from queries
  BFloat16* keys;
  BFloat16* values;
  BFloat16* gradients;  ///< do
  QueryRows<Width> queries;

  __device__ Memory(float4* begin, const Share<warps>& share)
      : scratch(*reinterpret_cast<float (*)[4][warps]>(begin)),
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
    load_twice_at<false>(head.query + row * stride<Width>, apart, rows);
    load_twice_at<true>(head.query + row * stride<Width>, apart, columns);
    load_sums(head.minus_lse + row * 2, minus_lse);
    load_sums(head.minus_delta + row * 2, minus_delta);
  }

private:
  static __device__ void load_sums(const Half* from, HalfSums (&to)[2]) {
    const uint4 four = *reinterpret_cast<const uint4*>(from);
    to[0] = {{four.x, four.y}};
    to[1] = {{four.z, four.w}};
  }
};

/// The way of a block of keys past a load of queries, of which some pass at each step.
struct Way {
  int waits;  ///< steps before it begins
  int first;  ///< place of the first step
  int by;     ///< from one step to the next
  int steps;
  int round;  ///< after this place comes 0
};

/// The course of a head's warps past a load of queries. A warp has two blocks of keys in turn, its place-th from the
/// front and from the back, so that all have as much to do; no two are at the same queries at a time. A step is half as
/// many queries as a block has keys.
///
/// Where the queries are at the keys' positions, a warp goes up through those that see its first block, from the
/// block's own on, and then down through those that see its second, so that it comes to the block's own in the last
/// step. Going the same way, warps stay as far apart as their blocks. Those that go up and those that go down are at
/// places of different parity, as blocks begin at even ones and the number of steps is even.
///
/// A warp pauses for two steps between its blocks, in which it puts away the first's sums while the others go on.
///
/// Elsewhere all queries may see all keys: the warps go round, one behind the other, once for each block.
template <int Width>
class Course {
  using B = Backward<Width>;

public:
  __device__ Course(int place, int warps, int rows, bool at_keys, int window)
      : place_(place), warps_(warps), count_((rows + B::step - 1) / B::step), window_(window), at_keys_(at_keys) {
    steps_ = 0;
    if (at_keys)
      for (int p = 0; p < warps; ++p) steps_ = max(steps_, (length(p) + length(2 * warps - 1 - p) + 1) / 2 * 2);
    if (at_keys && warps > 1) steps_ += 2;
  }
  /// The number of the first or second block.
  __device__ int block(int which) const { return which == 0 ? place_ : 2 * warps_ - 1 - place_; }
  __device__ Way way(int which) const {
    const int round = max(count_, warps_);
    if (!at_keys_) return {0, place_, 1, round, round};
    const int own = length(block(which));
    if (which == 0) return {0, 2 * place_, 1, own, count_ + 1};
    return {steps_ - length(place_) - own, 2 * block(1) + own - 1, -1, own, count_ + 1};
  }

private:
  /// Of the queries at the keys' positions, places that see a block.
  __device__ int length(int block) const {
    return max(0, min(count_, (block * B::keys + B::keys - 1 + window_) / B::step + 1) - 2 * block);
  }

  int place_, warps_, count_, window_, steps_;
  bool at_keys_;
};

/// All warps of a block wait for each other, each at its place of the code; `__syncthreads` asks for the same place.
__device__ inline void meet() { asm volatile("bar.sync 0;" : : : "memory"); }

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

  /// What follows from them. `distance` is that of the lane's first query from its first key of the tile.
  template <bool Masked>
  __device__ void add(int j, Products x, const PassingQueries<Width>& queries, int distance, int window,
                      Sums (&d_query)[Width / 8]) {
    HalfSums p[2];
#pragma unroll
    for (int b = 0; b < 2; ++b)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        constexpr std::uint32_t unit = pair_of(0x1800);   // exponent_unit
        constexpr std::uint32_t shift = pair_of(0x2680);  // exponent_shift units
        std::uint32_t& power = p[b].row[half];
        power = x.exponent[b].row[half];
        if (!Masked && is_by_multipliers(b)) {
          power = power_of_two(multiply_add_positive(power, unit, shift));
        } else {
          power = plain_power_of_two(power);
          if (Masked && !sees(distance + b * 8 - half * 8, window)) power &= 0xffff0000u;
          if (Masked && !sees(distance + b * 8 + 1 - half * 8, window)) power &= 0x0000ffffu;
        }
        x.d_score[b].row[half] = attention_narrow::multiply(x.d_score[b].row[half], power);
      }
    const Left<16> mixing = as_left(p[0], p[1]);
    const Left<16> d_scores = as_left(x.d_score[0], x.d_score[1]);
    const Left<16> d_scores_of_queries = tensor::transposed(d_scores);
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) {
      multiply_add_halves(d_value[j][c], mixing, queries.columns[1].right(c));
      multiply_add_halves(d_key[j][c], d_scores, queries.columns[0].right(c));
      multiply_add_halves(d_query[c], d_scores_of_queries, key_columns[j][c]);
    }
  }

  /// Queries `row` to `row` + 15 pass by, `ahead` of the block's first key. If All, they see all keys of the block.
  template <bool All>
  __device__ void pass(const QueryRows<Width>& head, int apart, int row, int ahead, int window) {
    const PassingQueries<Width> queries(head, row, apart);
    Sums d_query[Width / 8];
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) load(head.d_query + row * Width + c * 128, d_query[c].value);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int distance = ahead + lane % 4 * 2 - lane / 4;
#pragma unroll
    for (int j = 0; j < tiles; ++j)
      if (All || (ahead >= 16 * j && ahead - 16 * j - 15 <= window))
        add<!All>(j, Products(*this, j, queries), queries, distance - 16 * j, window, d_query);
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) store(head.d_query + row * Width + c * 128, d_query[c].value);
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
#pragma unroll
        for (int i = 0; i < B::step; i += 16) pass<true>(of_lane, apart, first + i, ahead + first + i, window);
      } else {
        const int behind = min(first + B::step, rows);
#pragma unroll 1
        for (int row = first; row < behind; row += 16)
          if (ahead + row >= 0 && ahead + row - (B::keys - 1) <= window)
            pass<false>(of_lane, apart, row, ahead + row, window);
      }
      place += way.by;
      if (place == way.round) place = 0;
      meet();
    }
  }
};

}  // namespace mad::cuda::attention_narrow
