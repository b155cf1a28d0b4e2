// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Queries of narrow heads on their way past the keys (narrow.cuh): scores, powers of two, values mixed.
#pragma once

#include <mad/cuda/kernels/attention/narrow_rows.cuh>

#include <cstddef>
#include <cstdint>

namespace mad::cuda::attention_narrow {

/// 32 queries of a warp, on their way past the keys. A lane holds numbers of rows lane / 4 + 8 i.
template <int Width>
struct Queries {
  Left<Width> query[2];
  float base[2][2];  ///< terms are 2^(score - base)
  Sums mixed[2][Width / 8];
  Sums sum[2];

  /// Takes up 32 rows of shared memory.
  __device__ void take(const BFloat16* rows) {
    Matrices<Width> m[2];
    load_twice<false>(rows, 16 * stride<Width>, m);
    query[0] = m[0].left();
    query[1] = m[1].left();
  }

  /// Sets the base of rows 16 m + lane / 4 + 8 half. What is mixed already is multiplied by `values` besides.
  __device__ void set_base(int m, int half, float to, float values) {
    const float shrink = tensor::power_of_two(base[m][half] - to);
#pragma unroll
    for (int i = 2 * half; i < 2 * half + 2; ++i) {
      sum[m].value[i] *= shrink;
#pragma unroll
      for (int c = 0; c < Width / 8; ++c) mixed[m][c].value[i] *= shrink * values;
    }
    base[m][half] = to;
  }

  /// The largest scores of 32 keys, in units of `exponent_unit`, of the lane's columns. `distance` is that of the
  /// lane's first query from its first key. Without Masked all queries see all of them.
  template <bool Masked>
  __device__ void find_largest(const BFloat16* keys, int distance, int window, HalfSums (&largest)[2]) const {
    Matrices<Width> key[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        HalfSums score{};
        multiply_add_halves(score, query[m], key[j / 2].right_of_rows(j % 2));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int first = distance + m * 16 + half * 8 - j * 8;
          std::uint32_t row = score.row[half];
          if (Masked && !sees(first, window)) row = (row & 0xffff0000u) | least_half;
          if (Masked && !sees(first - 1, window)) row = (row & 0xffffu) | least_half << 16;
          largest[m].row[half] = larger(largest[m].row[half], row);
        }
      }
  }

  /// Finds the largest scores of keys [s_begin, s_end), which are at `keys` from key 0 on, and what makes them the
  /// largest exponent: bases, and what is to be added to scores. All queries see all of [first_seen, last_seen). False
  /// where what is mixed already has a larger base, which stays.
  __device__ bool shift(const BFloat16* keys, int s_begin, int s_end, int first_seen, int last_seen, int distance,
                        int window, bool is_mixed, float (&to)[2][2], HalfSums (&start)[2]) const {
    HalfSums largest[2];
    for (HalfSums& l : largest) l = {{pair_of(least_half), pair_of(least_half)}};
    for (int s = s_begin; s < s_end; s += 32) {
      if (s >= first_seen && s < last_seen)
        find_largest<false>(keys + s * stride<Width>, 0, 0, largest);
      else
        find_largest<true>(keys + s * stride<Width>, distance - s, window, largest);
    }
    bool all = true;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int m = i / 2;
      const int half = i % 2;
      std::uint32_t score = largest[m].row[half];
      score = larger(score, __shfl_xor_sync(0xffffffffu, score, 1));
      score = larger(score, __shfl_xor_sync(0xffffffffu, score, 2));
      const float most = larger_of(score) * (1 / exponent_unit);
      const float shift = largest_exponent - ceilf(most + fabsf(most) * 0x1p-10f);  // however both are rounded
      start[m].row[half] = pack_halves(shift * exponent_unit, shift * exponent_unit);
      to[m][half] = exponent_shift - larger_of(start[m].row[half]) * (1 / exponent_unit);
      if (is_mixed && base[m][half] > to[m][half]) {
        to[m][half] = base[m][half];
        all = false;
      }
    }
    return __all_sync(0xffffffffu, all) != 0;
  }

  /// Mixes the values of 32 keys in, as powers of halves: scores plus `start`, and for the last 16 queries plus
  /// `start_behind`, are no larger than `largest_exponent`, and bases are `exponent_shift` less that. They are not
  /// negative either, or else all powers are taken `Specially`. All queries see all keys, or with Diagonal the keys up
  /// to their own, which are at the same positions.
  template <bool Diagonal, bool Specially>
  __device__ void mix_halves(const BFloat16* keys, const BFloat16* values, const HalfSums& start,
                             const HalfSums& start_behind) {
    Matrices<Width> key[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
    HalfSums term[2][2][2];
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int m = Diagonal ? j : 0; m < 2; ++m)
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          term[j][m][b] = m == 0 ? start : start_behind;
          multiply_add_halves(term[j][m][b], query[m], key[j].right_of_rows(b));
        }
    Matrices<Width> value[2];
    load_twice<true>(values, 16 * stride<Width>, value);
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int m = Diagonal ? j : 0; m < 2; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          std::uint32_t& low = term[j][m][0].row[half];
          std::uint32_t& high = term[j][m][1].row[half];
          low = power_of_two_specially(low);
          high = Specially ? power_of_two_specially(high) : power_of_two(high);
          if (Diagonal && m == j && half == 0) low &= own_and_before();
          if (Diagonal && m == j) high = half == 0 ? 0 : high & own_and_before();
        }
        add(m, as_left(term[j][m][0], term[j][m][1]), value[j]);
      }
  }
  /// Of the lane's two columns of an 8 x 8 block, those up to its row.
  static __device__ std::uint32_t own_and_before() {
    const unsigned lane = threadIdx.x % 32;
    return (lane % 4 * 2 <= lane / 4 ? 0x0000ffffu : 0u) | (lane % 4 * 2 + 1 <= lane / 4 ? 0xffff0000u : 0u);
  }

  /// Mixes the values of 32 keys in, with terms that may be any. Without Masked all queries see all of them.
  template <bool Masked>
  __device__ void mix(const BFloat16* keys, const BFloat16* values, int distance, int window) {
    Matrices<Width> key[2];
    Matrices<Width> value[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
    load_twice<true>(values, 16 * stride<Width>, value);
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        HalfSums term[2];
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          Sums x;
          multiply_add_halves(x, query[m], key[j].right_of_rows(b));
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            x.value[i] = tensor::power_of_two(x.value[i] * (1 / exponent_unit) - base[m][i / 2]);
            if (Masked && !sees(distance + (m - j) * 16 + i / 2 * 8 - b * 8 - i % 2, window)) x.value[i] = 0;
          }
          term[b] = {{pack_halves(x.value[0], x.value[1]), pack_halves(x.value[2], x.value[3])}};
        }
        add(m, as_left(term[0], term[1]), value[j]);
      }
  }

  __device__ void add(int m, const Left<16>& terms, const Matrices<Width>& value) {
    constexpr std::uint32_t ones = pair_of(0x3c00);
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) multiply_add_halves(mixed[m][c], terms, value.right(c));
    multiply_add_halves(sum[m], terms, Right<16>{{ones, ones}});
  }

  /// The results of queries t0 and so on that are before `end`, to rows of a head, values times `value`.
  __device__ void store(BFloat16* o, std::size_t o_stride, float* lse, std::size_t lse_stride, int t0, int end,
                        float value) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first = t0 + lane / 4;
    o += static_cast<std::size_t>(first) * o_stride + lane % 4 * 2;
    lse += static_cast<std::size_t>(first) * lse_stride;
#pragma unroll
    for (int row = 0; row < 4; ++row, o += 8 * o_stride, lse += 8 * lse_stride) {
      if (first + row * 8 >= end) break;
      const int i = row % 2 * 2;
      const float total = sum[row / 2].value[i];
      const float share = value * tensor::reciprocal(total);
#pragma unroll
      for (int c = 0; c < Width / 8; ++c)
        *reinterpret_cast<std::uint32_t*>(o + c * 8) =
            tensor::pack(mixed[row / 2][c].value[i] * share, mixed[row / 2][c].value[i + 1] * share);
      if (lane % 4 == 0) *lse = (tensor::logarithm_to_two(total) + base[row / 2][row % 2]) * (1 / log2_e);
    }
  }
};

}  // namespace mad::cuda::attention_narrow
