// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention in bfloat16 for narrow heads, of 8 or 16 channels. Their products are so short that the
/// exponentials take the time: everything here keeps the instructions around them few.
///
/// - Factors are halves (narrow_half.cuh): rows are brought into their range as they are loaded.
/// - Scores come out of the tensor cores as halves, with a constant added that makes them positive: what the powers of
///   two are taken of. Five instructions of the multipliers give two powers, the next product's factors.
/// - The constant is a bound of the scores, |q_t| max_s |k_s| (Cauchy and Schwarz), where that is small, so that there
///   is no maximum. Where it is not, the largest score is found first, by products alone, and scores and powers are
///   floats on their way.
/// - The terms are summed by the tensor cores, as products with ones.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/kernels/attention/narrow_rows.cuh>

#include <cstddef>
#include <cstdint>

namespace mad::cuda::attention_narrow {

inline constexpr int forward_warps = 8;
/// Rows of keys in shared memory, for all heads of a block.
template <int Width>
inline constexpr int forward_capacity = 8192 / Width;
/// Queries of a block.
inline constexpr int forward_queries = 1024;
/// Where no score is larger than this, in powers of two, exponents of halves hold all terms.
inline constexpr int largest_bound = largest_exponent / 2;
/// Less than any score.
inline constexpr float no_score = -1e30f;

/// What the keys and values in shared memory were divided by.
struct Loaded {
  float key;
  float value;
  float longest;  ///< the norm of the longest key, undivided
};

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

  /// The largest scores of 32 keys. `distance` is that of the lane's first query from its first key.
  __device__ void find_largest(const BFloat16* keys, int distance, int window, float (&largest)[2][2]) const {
    Matrices<Width> key[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        Sums score;
        multiply_add_halves(score, query[m], key[j / 2].right_of_rows(j % 2));
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (sees(distance + m * 16 + i / 2 * 8 - j * 8 - i % 2, window))
            largest[m][i / 2] = fmaxf(largest[m][i / 2], score.value[i] * (1 / exponent_unit));
      }
  }

  /// Mixes the values of 32 keys in; no score is over `bound`, and bases are `exponent_shift` - bound. All queries see
  /// all keys, or with Diagonal the keys up to their own, which are at the same positions.
  template <bool Diagonal>
  __device__ void mix_bounded(const BFloat16* keys, const BFloat16* values, const HalfSums& bound) {
    Matrices<Width> key[2];
    load_twice<false>(keys, 16 * stride<Width>, key);
    HalfSums term[2][2][2];
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int m = Diagonal ? j : 0; m < 2; ++m)
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          term[j][m][b] = bound;
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
          high = power_of_two(high);
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

/// Keys, turned, and values [first, end) of the block's heads to shared memory as halves; `k` and `v` are the first
/// rows of the sequence, at the channels of the thread's head. `scratch` is shared memory.
template <int Width, int Warps>
__device__ Loaded load_keys(BFloat16* keys, BFloat16* values, const BFloat16* k, const BFloat16* v, const Operands& of,
                            int first, int end, const Share<Warps>& share, const Rotation& rotation,
                            float (&scratch)[2][Warps]) {
  constexpr int at_once = Width == 8 ? 2 : 1;  // as the angles come from far away
  const Part part(share);
  keys += share.row(part.slot) * stride<Width>;
  values += share.row(part.slot) * stride<Width>;
  wait_for_copies<0>();
  float square[2]{};
  for (int r = part.first; first + r < end; r += part.apart) {
    turn_otherwise<Width>(keys + r * stride<Width>, first + r, 1.0f, rotation);
    square[0] = fmaxf(square[0], Row<Width>::at(keys + r * stride<Width>).square());
    square[1] = fmaxf(square[1], Row<Width>::at(values + r * stride<Width>).square());
  }
  find_largest_of_block(square, scratch);
  const float longest = tensor::square_root(square[0]);
  const float key_power = power_over(longest);
  const float value_power = power_over(tensor::square_root(square[1]));
  for (int begin = part.first; first + begin < end; begin += at_once * part.apart) {
    Turn<Width> turn[at_once];
#pragma unroll
    for (int u = 0; u < at_once; ++u) turn[u].ask(min(first + begin + u * part.apart, end - 1), rotation);
#pragma unroll
    for (int u = 0; u < at_once; ++u) {
      const int r = begin + u * part.apart;
      if (first + r >= end) break;
      turn[u].make_halves(keys + r * stride<Width>, reciprocal_of_power(key_power), 1.0f);
      make_halves<Width>(values + r * stride<Width>, reciprocal_of_power(value_power));
    }
  }
  __syncthreads();
  return {key_power, value_power, longest};
}

/// o_t = sum_s p[t,s] v_s and the log-sum-exp of the scores. A warp computes 32 queries at a time, of which a head's
/// warps take turns in alternating directions: later queries have more to do. Grid: (blocks of queries, groups of
/// heads, batch).
template <int Width>
__global__ void __launch_bounds__(32 * forward_warps, 2)
    forward(AttentionSizes n, Share<forward_warps> share, Operands of, BFloat16* o, std::size_t o_stride, float* lse,
            std::size_t lse_stride) {
  extern __shared__ float4 dynamic_memory[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int slot = share.head_of(warp);
  const int place = share.place_of(warp);
  const int first_head = static_cast<int>(blockIdx.y) << share.shift;
  const int head = first_head + slot;
  const int loaded_head = (first_head + Part(share).slot) / (n.heads / n.kv_heads);
  const std::size_t sequence = std::size_t{blockIdx.z} * n.length;
  const BFloat16* q = of.q + sequence * of.q_stride + head * Width;
  const BFloat16* k = of.k + sequence * of.k_stride + loaded_head * Width;
  const BFloat16* v = of.v + sequence * of.v_stride + loaded_head * Width;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * forward_queries;  // the longest rows begin first
  const int last = min(first + forward_queries, n.length);
  const int at_once = 32 * share.head_warps();  // queries of a head
  const Rotation rotation = n.rotation();
  const float factor = n.scale * log2_e;  // powers of two are what is computed
  auto& scratch = *reinterpret_cast<float(*)[2][forward_warps]>(dynamic_memory);
  auto* keys = reinterpret_cast<BFloat16*>(dynamic_memory + sizeof(scratch) / sizeof(float4));
  BFloat16* values = keys + share.all_rows() * stride<Width>;
  BFloat16* own = values + share.all_rows() * stride<Width> + warp * 32 * stride<Width>;
  // The queries of a warp are on their way to shared memory while it computes others.
  const auto fetch = [&](int t) {
    copy_row<Width>(own + lane * stride<Width>, q + static_cast<std::size_t>(t + lane) * of.q_stride, t + lane < last);
    commit_copies();
  };
  int t0 = first + 32 * place;
  fetch(t0);
  int in_memory = -1;  // first key in shared memory
  Loaded loaded{};
  for (int begin = first, turn = 0; begin < last; begin += at_once, turn ^= 1) {
    const int next = begin + at_once + 32 * (turn == 0 ? share.head_warps() - 1 - place : place);
    const int end = min(begin + at_once, last);
    const int earliest = max(0, begin - n.window);
    Queries<Width> queries;
    float value = 0;  // what the values that are mixed were divided by, if any are
    const int first_chunk = earliest < share.rows ? 0 : earliest / share.rows * share.rows;
    for (int chunk = first_chunk; chunk < end; chunk += share.rows) {
      if (chunk != in_memory) {
        __syncthreads();
        in_memory = chunk;
        const int chunk_end = min(chunk + share.rows, last);
        copy_rows<Width, 32>(keys, k, of.k_stride, values, v, of.v_stride, chunk, chunk_end, share);
        loaded = load_keys<Width>(keys, values, k, v, of, chunk, chunk_end, share, rotation, scratch);
      }
      if (t0 >= last) continue;
      wait_for_copies<0>();
      BFloat16* row = own + lane * stride<Width>;
      const float query_norm = tensor::square_root(Row<Width>::at(row).square());
      Turn<Width> turn;
      turn.ask(min(t0 + lane, last - 1), rotation);
      turn_otherwise<Width>(row, min(t0 + lane, last - 1), 1.0f, rotation);
      turn.make_halves(row, loaded.key, factor * exponent_unit);
      __syncwarp();
      queries.take(own);
      __syncwarp();
      if (chunk + share.rows < end)
        fetch(t0);  // the same once more, for keys that are divided by another number
      else if (next < last)
        fetch(next);
      const int s_begin = max(chunk, max(0, t0 - n.window) / 32 * 32);
      const int s_end = min(min(chunk + share.rows, t0 + 32), last);
      if (s_begin >= s_end) continue;
      const BFloat16* key = keys + (share.row(slot) - chunk) * stride<Width>;
      const BFloat16* value_rows = values + (share.row(slot) - chunk) * stride<Width>;
      const int distance = t0 + lane / 4 - lane % 4 * 2;
      // The bound of all 32 queries, however it was rounded, as a whole number.
      float bound = query_norm * loaded.longest * fabsf(factor) * 1.02f;
      bound = ceilf(__uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(bound))));
      bool bounded = bound <= largest_bound;
      if (bounded && value != 0)  // what is mixed must not overflow
        bounded = __all_sync(0xffffffffu, fmaxf(fmaxf(queries.base[0][0], queries.base[0][1]),
                                                fmaxf(queries.base[1][0], queries.base[1][1])) <= exponent_shift) != 0;
      float largest[2][2] = {{no_score, no_score}, {no_score, no_score}};
      if (!bounded)
        for (int s = s_begin; s < s_end; s += 32)
          queries.find_largest(key + s * stride<Width>, distance - s, n.window, largest);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = i / 2;
        const int half = i % 2;
        float base = static_cast<float>(exponent_shift) - bound;
        if (!bounded) {
          base = fmaxf(largest[m][half], __shfl_xor_sync(0xffffffffu, largest[m][half], 1));
          base = fmaxf(base, __shfl_xor_sync(0xffffffffu, base, 2));
          if (value != 0) base = fmaxf(base, queries.base[m][half]);
        }
        if (value != 0)
          queries.set_base(m, half, base, value * reciprocal_of_power(loaded.value));
        else
          queries.base[m][half] = base;
      }
      value = loaded.value;
      const HalfSums start = twice(pack_halves(bound * exponent_unit, bound * exponent_unit));
      // All 32 queries see all of [first_seen, last_seen).
      const int first_seen = max(s_begin, (max(0, t0 + 31 - n.window) + 31) / 32 * 32);
      const int last_seen = min(s_end, t0);
      key += s_begin * stride<Width>;
      value_rows += s_begin * stride<Width>;
      for (int s = s_begin; s < s_end;) {
        if (bounded && s >= first_seen) {
          for (; s < last_seen; s += 32, key += 32 * stride<Width>, value_rows += 32 * stride<Width>)
            queries.template mix_bounded<false>(key, value_rows, start);
          if (s >= s_end) break;
          if (s == t0 && n.window >= 31) {
            queries.template mix_bounded<true>(key, value_rows, start);
            break;
          }
        }
        if (s >= first_seen && s < last_seen)
          queries.template mix<false>(key, value_rows, distance - s, n.window);
        else
          queries.template mix<true>(key, value_rows, distance - s, n.window);
        s += 32;
        key += 32 * stride<Width>;
        value_rows += 32 * stride<Width>;
      }
    }
    queries.store(o + sequence * o_stride + head * Width, o_stride, lse + sequence * lse_stride + head, lse_stride, t0,
                  last, value);
    t0 = next;
  }
}

}  // namespace mad::cuda::attention_narrow

namespace mad::cuda {

/// As `attention_forward`, for heads of 8 or 16 channels; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_forward_narrow(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                              View<const BFloat16> v, View<BFloat16> o, View<float> lse) {
  namespace a = attention_narrow;
  const a::Share<a::forward_warps> share(n.heads, n.length, a::forward_capacity<Width>, 4);
  const dim3 grid(static_cast<unsigned>((n.length + a::forward_queries - 1) / a::forward_queries),
                  static_cast<unsigned>(n.heads >> share.shift), static_cast<unsigned>(n.batch));
  const auto rows = static_cast<std::size_t>(2 * share.all_rows() + 32 * a::forward_warps);
  queue.launch("attention", a::forward<Width>, grid, dim3(32 * a::forward_warps),
               sizeof(float[2][a::forward_warps]) + rows * a::stride<Width> * sizeof(BFloat16), n, share,
               a::Operands(q, k, v), o.data, o.stride, lse.data, lse.stride);
}

}  // namespace mad::cuda
