// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The weights of a product of low rank (low_rank_product.cuh) in shared memory. They come by asynchronous copies: a
/// warp that waited for them in registers would wait for all that it has asked for since.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>

#include <cstdint>

namespace mad::cuda::low_rank_detail {

inline constexpr unsigned widest = 256;  ///< columns of x and of y
inline constexpr unsigned most_middle = 32;
inline constexpr unsigned warps = 8;
inline constexpr unsigned threads = 32 * warps;
inline constexpr unsigned block_rows = 16 * warps;

/// Of 32 neighbouring columns of x or y, number 8 q + 2 m + b is number 2 q + b of the m-th of four matrices. So the 8
/// neighbouring numbers that lane q of four reads or writes are those that the tensor cores want of it, or give it.
constexpr __device__ unsigned place_of(unsigned column) {
  return column / 32 * 32 + column % 8 / 2 * 8 + column % 32 / 8 * 2 + column % 2;
}

/// A weight as it is stored in memory, of columns of x or y ("wide") and columns of z ("middle").
struct StoredWeight {
  const BFloat16* value;
  unsigned wide;
  unsigned middle;
  const BFloat16* bias;  ///< a further column of z, of which all rows are 1; or null
};

/// A weight of which a row has all wide columns, for one column of z. Lies as it is, columns in their places.
template <unsigned Middle>
struct WeightInWideRows {
  static constexpr unsigned stride = widest + 8;  ///< eight rows below each other lie in different banks
  static constexpr unsigned rounds = Middle / warps;

  uint4 piece[rounds * threads];
  BFloat16 value[Middle * stride];

  __device__ void fetch_async(const StoredWeight& weight) {
    const unsigned wide = threadIdx.x % 32 * 8;
#pragma unroll
    for (unsigned i = 0; i < rounds; ++i) {
      const unsigned middle = threadIdx.x / 32 + i * warps;
      const bool is_bias = middle == weight.middle && weight.bias != nullptr;
      const BFloat16* row = is_bias ? weight.bias : weight.value + middle * weight.wide;
      copy_or_clear_async(piece + i * threads + threadIdx.x, row + wide,
                          wide < weight.wide && (middle < weight.middle || is_bias));
    }
  }
  /// When the thread's own copies have arrived.
  __device__ void arrange() {
    const unsigned own = threadIdx.x;
    BFloat16* const to = value + own / 32 * stride + place_of(own % 32 * 8);
#pragma unroll
    for (unsigned i = 0; i < rounds; ++i) {
      const uint4 eight = piece[i * threads + own];
      const std::uint32_t words[4]{eight.x, eight.y, eight.z, eight.w};
#pragma unroll
      for (unsigned m = 0; m < 4; ++m) *reinterpret_cast<std::uint32_t*>(to + i * warps * stride + m * 8) = words[m];
    }
  }

  /// Where a lane finds rows of the factors below.
  __device__ std::uint32_t for_lane() const {
    const unsigned lane = threadIdx.x % 32;
    const BFloat16* const row = value + (lane / 8 % 2 * 8 + lane % 8) * stride + lane / 16 * 8;
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  }
  /// A left factor: columns [16 j, 16 j + 16) of z below each other, 16 wide columns from place 16 \p step on.
  static __device__ tensor::Left<16> left(std::uint32_t from, unsigned j, unsigned step) {
    tensor::Left<16> a;
    tensor::load_matrices<false>(from, 0, static_cast<int>((j * 16 * stride + step * 16) * 2), a.part);
    return a;
  }
  /// Two right factors: columns [16 s, 16 s + 16) of z, 8 wide columns from place \p place on, and the next 8.
  static __device__ void right(std::uint32_t from, unsigned s, unsigned place, std::uint32_t (&two)[4]) {
    tensor::load_matrices<true>(from, 0, static_cast<int>((s * 16 * stride + place) * 2), two);
  }
};

/// A weight of which a row has all columns of z, for one wide column. Rows lie in the places of their columns.
template <unsigned Middle>
struct WeightInMiddleRows {
  static constexpr unsigned stride = Middle + 8;
  static constexpr unsigned pieces = Middle / 8;  ///< of a row
  static constexpr unsigned rounds = pieces * widest / threads;

  uint4 bias[widest / 8];
  alignas(16) BFloat16 value[widest * stride];

  __device__ void fetch_async(const StoredWeight& weight) {
    const unsigned middle = threadIdx.x % pieces * 8;
    const unsigned first = threadIdx.x / pieces;
    if (weight.bias != nullptr && middle == weight.middle) return;  // comes below
    constexpr unsigned step = threads / pieces;
    static_assert(step % 32 == 0);
    BFloat16* const to = value + place_of(first) * stride + middle;
    const BFloat16* const from = weight.value + first * weight.middle + middle;
#pragma unroll
    for (unsigned i = 0; i < rounds; ++i)
      copy_or_clear_async(to + i * step * stride, from + i * step * weight.middle,
                          middle < weight.middle && first + i * step < weight.wide);
  }
  __device__ void fetch_bias_async(const StoredWeight& weight) {
    const unsigned own = threadIdx.x;
    if (weight.bias != nullptr && own < widest / 8)
      copy_or_clear_async(bias + own, weight.bias + own * 8, own * 8 < weight.wide);
  }
  __device__ void arrange_bias(const StoredWeight& weight) {
    const unsigned own = threadIdx.x;
    if (weight.bias == nullptr || own >= widest / 8) return;
    const uint4 eight = bias[own];
    const std::uint32_t words[4]{eight.x, eight.y, eight.z, eight.w};
    BFloat16* const to = value + place_of(own * 8) * stride + weight.middle;
#pragma unroll
    for (unsigned c = 0; c < 8; ++c)
      *reinterpret_cast<uint4*>(to + (c / 2 * 8 + c % 2) * stride) =
          uint4{c % 2 == 0 ? words[c / 2] & 0xffffu : words[c / 2] >> 16, 0, 0, 0};
  }

  __device__ std::uint32_t for_lane() const {
    const unsigned lane = threadIdx.x % 32;
    const BFloat16* const row = value + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  }
  static __device__ tensor::Left<16> left(std::uint32_t from, unsigned j, unsigned step) {
    tensor::Left<16> a;
    tensor::load_matrices<true>(from, 0, static_cast<int>((step * 16 * stride + j * 16) * 2), a.part);
    return a;
  }
  static __device__ void right(std::uint32_t from, unsigned s, unsigned place, std::uint32_t (&two)[4]) {
    tensor::load_matrices<false>(from, 0, static_cast<int>((place * stride + s * 16) * 2), two);
  }
};

/// W1 and W2. With \p InOut both are stored (inner, columns), or else (columns, inner).
template <unsigned Middle, bool InOut>
struct Weights {
  WeightInWideRows<Middle> first;
  WeightInMiddleRows<Middle> second;

  __device__ void fetch_async(const StoredWeight& one, const StoredWeight& two) {
    first.fetch_async(one);
    second.fetch_async(two);
    second.fetch_bias_async(two);
  }
  __device__ void arrange(const StoredWeight& two) {
    first.arrange();
    second.arrange_bias(two);
  }
};
template <unsigned Middle>
struct Weights<Middle, true> {
  WeightInMiddleRows<Middle> first;
  WeightInWideRows<Middle> second;

  __device__ void fetch_async(const StoredWeight& one, const StoredWeight& two) {
    first.fetch_async(one);
    second.fetch_async(two);
  }
  __device__ void arrange(const StoredWeight&) { second.arrange(); }
};

}  // namespace mad::cuda::low_rank_detail
