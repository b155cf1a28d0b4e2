// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax attention in bfloat16 for narrow heads, of 8 or 16 channels. Their products are so short that the
/// exponentials take the time: everything here keeps the instructions around them few.
///
/// - Factors are halves (narrow_half.cuh): rows are brought into their range as they are loaded.
/// - Scores come out of the tensor cores as halves, with a constant added that makes them positive: what the powers of
///   two are taken of. Five instructions of the multipliers give two powers, the next product's factors.
/// - The constant is a bound of the scores, |q_t| max_s |k_s| (Cauchy and Schwarz), where that is small, so that there
///   is no maximum. Where it is not, the largest score is found first, by products alone; the constant then makes it
///   the largest exponent, and powers are taken by the special functions, for which scores may be far below.
/// - The terms are summed by the tensor cores, as products with ones.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/kernels/attention/narrow_queries.cuh>
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

/// What the keys and values in shared memory were divided by.
struct Loaded {
  float key;
  float value;
  float longest;  ///< the norm of the longest key, undivided
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
    turn_otherwise<Width>(keys + r * stride<Width>, first + r, rotation);
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
      turn_otherwise<Width>(row, min(t0 + lane, last - 1), rotation);
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
      // All 32 queries see all of [first_seen, last_seen).
      const int first_seen = max(s_begin, (max(0, t0 + 31 - n.window) + 31) / 32 * 32);
      const int last_seen = min(s_end, t0);
      float base[2][2];
      HalfSums start[2];
      bool shifted = false;
      if (bounded) {
        start[0] = twice(pack_halves(bound * exponent_unit, bound * exponent_unit));
#pragma unroll
        for (int i = 0; i < 4; ++i) base[i / 2][i % 2] = static_cast<float>(exponent_shift) - bound;
      } else {
        shifted =
            queries.shift(key, s_begin, s_end, first_seen, last_seen, distance, n.window, value != 0, base, start);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = i / 2;
        const int half = i % 2;
        if (value != 0)
          queries.set_base(m, half, base[m][half], value * reciprocal_of_power(loaded.value));
        else
          queries.base[m][half] = base[m][half];
      }
      value = loaded.value;
      key += s_begin * stride<Width>;
      value_rows += s_begin * stride<Width>;
      for (int s = s_begin; s < s_end;) {
        if ((bounded || shifted) && s >= first_seen) {
          if (bounded)
            for (; s < last_seen; s += 32, key += 32 * stride<Width>, value_rows += 32 * stride<Width>)
              queries.template mix_halves<false, false>(key, value_rows, start[0], start[0]);
          else
            for (; s < last_seen; s += 32, key += 32 * stride<Width>, value_rows += 32 * stride<Width>)
              queries.template mix_halves<false, true>(key, value_rows, start[0], start[1]);
          if (s >= s_end) break;
          if (s == t0 && n.window >= 31) {
            if (bounded)
              queries.template mix_halves<true, false>(key, value_rows, start[0], start[0]);
            else
              queries.template mix_halves<true, true>(key, value_rows, start[0], start[1]);
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
