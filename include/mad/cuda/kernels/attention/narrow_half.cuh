// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products of small matrices of 16-bit floats with 5 bits of exponent (halves), and powers of two of pairs of them.
/// They have eight times the accuracy of bfloat16, sums come out of the tensor cores as factors of the next product,
/// and the multipliers take two at a time. In exchange, whoever uses them must keep numbers within 2^-14 to 2^15.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>

#include <cuda_fp16.h>

#include <cstdint>

namespace mad::cuda::attention_narrow {

using Half = __half;
using tensor::Left;
using tensor::Right;
using tensor::Sums;

/// As `Sums`, rounded to halves: rows lane / 4 and lane / 4 + 8, two columns each.
struct HalfSums {
  std::uint32_t row[2];
};

__device__ inline void multiply_add_halves(Sums& c, const Left<16>& a, const Right<16>& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.value[0]), "+f"(c.value[1]), "+f"(c.value[2]), "+f"(c.value[3])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b.part[0]), "r"(b.part[1]));
}
__device__ inline void multiply_add_halves(Sums& c, const Left<8>& a, const Right<8>& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(c.value[0]), "+f"(c.value[1]), "+f"(c.value[2]), "+f"(c.value[3])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(b.part[0]));
}
/// Rounds once, behind the addition.
__device__ inline void multiply_add_halves(HalfSums& c, const Left<16>& a, const Right<16>& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"
      : "+r"(c.row[0]), "+r"(c.row[1])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b.part[0]), "r"(b.part[1]));
}
__device__ inline void multiply_add_halves(HalfSums& c, const Left<8>& a, const Right<8>& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%0,%1};"
      : "+r"(c.row[0]), "+r"(c.row[1])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(b.part[0]));
}

/// What is too large becomes the largest half, not infinity.
__device__ inline std::uint32_t pack_halves(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ constexpr std::uint32_t pair_of(std::uint32_t half) { return half << 16 | half; }
__device__ inline std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t c;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
  return c;
}
__device__ inline std::uint32_t multiply_add(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

/// a b + c, or 0 where that is negative.
__device__ inline std::uint32_t multiply_add_positive(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("fma.rn.relu.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

/// The least finite one.
inline constexpr std::uint32_t least_half = 0xfbff;
/// The larger ones of two pairs.
__device__ inline std::uint32_t larger(std::uint32_t a, std::uint32_t b) {
  std::uint32_t c;
  asm("max.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
  return c;
}
/// The larger one of a pair.
__device__ inline float larger_of(std::uint32_t pair) {
  const auto& two = reinterpret_cast<const __half2&>(pair);
  return fmaxf(__low2float(two), __high2float(two));
}

/// Sums that begin at a pair of numbers that all lanes have. Both rows have their own copy, behind a shuffle, so that
/// products can begin at the registers as they are: a compiler that knows them to be equal copies one before each.
__device__ inline HalfSums twice(std::uint32_t pair) { return {{pair, __shfl_sync(0xffffffffu, pair, 0)}}; }

/// What `power_of_two` is given of x: x / 2^9.
inline constexpr float exponent_unit = 1.0f / 512;
/// It computes 2^(x - 13).
inline constexpr int exponent_shift = 13;
/// x from 0 to 28, so that the results are no denormal numbers and finite.
inline constexpr int largest_exponent = 28;

/// 2^(x - 13) of two x in [0, 28], by five instructions of the multipliers; to 2.7e-3 of it, 1.1e-3 in the square mean,
/// which is what rounding to bfloat16 costs. x / 2^9 times 2^-15 is so small that it rounds to a whole number of the
/// least bits, and that is the integer nearest to x, ready to be added to an exponent; the power of the rest is a
/// quadratic.
__device__ inline std::uint32_t power_of_two(std::uint32_t x) {
  constexpr std::uint32_t minus_two_to_15 = pair_of(0xf800);
  constexpr std::uint32_t two_to_minus_15 = pair_of(0x0200);
  constexpr std::uint32_t quadratic = pair_of(0x47a8);  // 0.2392578125 2^(18 - 13)
  constexpr std::uint32_t linear = pair_of(0x299e);     // 0.7021484375 2^(9 - 13)
  constexpr std::uint32_t constant = pair_of(0x0800);   // 2^-13
  const std::uint32_t whole = multiply(x, two_to_minus_15);
  const std::uint32_t rest = multiply_add(whole, minus_two_to_15, x);
  const std::uint32_t y = multiply_add(multiply_add(rest, quadratic, linear), rest, constant);
  return y + (whole << 10);
}

/// 2^x of two x by the special functions, which are slower, but idle.
__device__ inline std::uint32_t plain_power_of_two(std::uint32_t x) {
  std::uint32_t y;
  asm("ex2.approx.f16x2 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}
/// The same of what `power_of_two` is given.
__device__ inline std::uint32_t power_of_two_specially(std::uint32_t x) {
  return plain_power_of_two(multiply_add(x, pair_of(0x6000), pair_of(0xca80)));  // 2^9 x - 13
}

/// Two neighbouring blocks of sums as the left factor of another product.
__device__ inline Left<16> as_left(const HalfSums& first, const HalfSums& second) {
  return {{first.row[0], first.row[1], second.row[0], second.row[1]}};
}

/// The least power of two over a norm that is known to a hundredth, within 2^-60 to 2^60: rows that are divided by it
/// are no longer than 1, and dividing rounds nothing.
__device__ inline float power_over(float norm) {
  const std::uint32_t bits = __float_as_uint(fminf(fmaxf(norm * 1.01f, 0x1p-60f), 0x1p60f));
  return __uint_as_float((bits + 0x007fffffu) & 0x7f800000u);
}
/// 1 / x of such a power.
__device__ inline float reciprocal_of_power(float x) { return __uint_as_float(0x7f000000u - __float_as_uint(x)); }

}  // namespace mad::cuda::attention_narrow
