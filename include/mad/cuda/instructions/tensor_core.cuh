// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products of small bfloat16 matrices on the tensor cores, one warp at a time: 16 rows by 8 columns, sums in float.
#pragma once

#include <mad/cuda/instructions/numbers.cuh>

#include <cstdint>

namespace mad::cuda::tensor {

/// 16 x 8 sums. Lane l holds rows l/4 (numbers 0, 1) and l/4 + 8 (numbers 2, 3), columns 2 (l mod 4) and the next.
struct Sums {
  float value[4]{};
};
/// Left factor, 16 x K for K = 8 or 16.
template <int K>
struct Left {
  std::uint32_t part[K / 4];
};
/// Right factor, K x 8.
template <int K>
struct Right {
  std::uint32_t part[K / 8];
};

__device__ inline void multiply_add(Sums& c, const Left<16>& a, const Right<16>& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.value[0]), "+f"(c.value[1]), "+f"(c.value[2]), "+f"(c.value[3])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b.part[0]), "r"(b.part[1]));
}
__device__ inline void multiply_add(Sums& c, const Left<8>& a, const Right<8>& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(c.value[0]), "+f"(c.value[1]), "+f"(c.value[2]), "+f"(c.value[3])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(b.part[0]));
}

__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(pair);
}

/// One of the two numbers of a word.
__device__ inline float number_of(std::uint32_t word, int i) {
  return __uint_as_float(i == 0 ? word << 16 : word & 0xffff0000u);
}

/// Two neighbouring blocks of sums as the left factor of another product.
__device__ inline Left<16> as_left(const Sums& first, const Sums& second) {
  return {{pack(first.value[0], first.value[1]), pack(first.value[2], first.value[3]),
           pack(second.value[0], second.value[1]), pack(second.value[2], second.value[3])}};
}

/// Four 8 x 8 matrices from shared memory. Lane l gives the address of row l mod 8 of matrix l / 8, and gets of each
/// matrix the numbers (l / 4, 2 (l mod 4)) and the next; of its transpose with Transposed.
template <bool Transposed>
__device__ inline void load_matrices(const BFloat16* row, std::uint32_t (&matrix)[4]) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
                 : "r"(address)
                 : "memory");
}

/// The same from an address in shared memory of which some bits are flipped, and a constant number of bytes behind it.
/// Left to the compiler, each such address of a loop would take a register of its own.
template <bool Transposed>
__device__ inline void load_matrices(std::uint32_t row, int flipped, int behind, std::uint32_t (&matrix)[4]) {
  if constexpr (Transposed)
    asm volatile(
        "{ .reg .b32 a; xor.b32 a, %4, %5; add.u32 a, a, %6; "
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [a]; }"
        : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
        : "r"(row), "r"(flipped), "r"(behind)
        : "memory");
  else
    asm volatile(
        "{ .reg .b32 a; xor.b32 a, %4, %5; add.u32 a, a, %6; "
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [a]; }"
        : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
        : "r"(row), "r"(flipped), "r"(behind)
        : "memory");
}

/// Stores four 8 x 8 matrices, of which lanes hold what `load_matrices` gives, to the rows whose addresses it takes;
/// for code for compute capability 9.0.
__device__ inline void store_matrices(BFloat16* row, const std::uint32_t (&matrix)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};"
               :
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row))), "r"(matrix[0]), "r"(matrix[1]),
                 "r"(matrix[2]), "r"(matrix[3])
               : "memory");
}

/// The transpose of an 8 x 8 matrix that the lanes hold as `load_matrices` gives it.
__device__ inline std::uint32_t transposed(std::uint32_t matrix) {
  std::uint32_t t;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(matrix));
  return t;
}
/// The transpose of a 16 x 16 matrix.
__device__ inline Left<16> transposed(const Left<16>& a) {
  return {{transposed(a.part[0]), transposed(a.part[2]), transposed(a.part[1]), transposed(a.part[3])}};
}

/// A row-major tile in shared memory; rows are padded so that eight of them lie in different banks.
template <int Rows, int Width>
struct Tile {
  static_assert(Width % 8 == 0);
  static constexpr int stride = Width + (Width % 16 == 0 ? 8 : 0);
  BFloat16 value[Rows * stride];

  __device__ BFloat16* row(int r) { return value + r * stride; }
  __device__ std::uint32_t address(int r, int c) const {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(value + r * stride + c));
  }

  /// Rows [r, r + 16), columns [c, c + K).
  template <int K>
  __device__ Left<K> left(int r, int c) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Left<K> a;
    if constexpr (K == 16)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(a.part[0]), "=r"(a.part[1]), "=r"(a.part[2]), "=r"(a.part[3])
                   : "r"(address(r + lane % 16, c + lane / 16 * 8))
                   : "memory");
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                   : "=r"(a.part[0]), "=r"(a.part[1])
                   : "r"(address(r + lane % 16, c))
                   : "memory");
    return a;
  }
  /// The transpose of rows [r, r + 8), columns [c, c + K): products of rows with rows.
  template <int K>
  __device__ Right<K> right_of_rows(int r, int c) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Right<K> b;
    if constexpr (K == 16)
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                   : "=r"(b.part[0]), "=r"(b.part[1])
                   : "r"(address(r + lane % 8, c + lane / 8 % 2 * 8))
                   : "memory");
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                   : "=r"(b.part[0])
                   : "r"(address(r + lane % 8, c))
                   : "memory");
    return b;
  }
  /// Rows [r, r + 16), columns [c, c + 8): sums over rows.
  __device__ Right<16> right(int r, int c) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Right<16> b;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.part[0]), "=r"(b.part[1])
                 : "r"(address(r + lane % 16, c))
                 : "memory");
    return b;
  }
};

/// 2^x, to about 2 units in the last place; 0 for minus infinity.
__device__ inline float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x, the square root of x and its logarithm to base 2, to about 2 units in the last place: of numbers that are
/// rounded to bfloat16 in the end.
__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float square_root(float x) {
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float logarithm_to_two(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace mad::cuda::tensor
