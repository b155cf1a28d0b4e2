// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows of heads in shared memory and in the registers of tensor cores, for attention under a Toeplitz mask. Heads are
/// padded with zeros to a multiple of 8 channels, a unit of 16 bytes.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/instructions/tensor_core.cuh>

#include <cstdint>
#include <type_traits>

namespace mad::cuda::toeplitz_tensor {

/// 16 rows as the left factor of products with rows of others: rows l/4 and l/4 + 8 of a unit, unit by unit.
template <int Units>
struct LeftRows {
  std::uint32_t part[2 * Units];
};
/// 8 rows as the right factor.
template <int Units>
struct RightRows {
  std::uint32_t part[Units];
};

/// The product of 16 x 16 and 16 x 8, or 16 x 8 and 8 x 8 numbers, added to nothing.
__device__ inline tensor::Sums multiply(const tensor::Left<16>& a, const tensor::Right<16>& b) {
  tensor::Sums c;
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
      : "=f"(c.value[0]), "=f"(c.value[1]), "=f"(c.value[2]), "=f"(c.value[3])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b.part[0]), "r"(b.part[1]), "f"(0.0f));
  return c;
}
__device__ inline tensor::Sums multiply(const tensor::Left<8>& a, const tensor::Right<8>& b) {
  tensor::Sums c;
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
      : "=f"(c.value[0]), "=f"(c.value[1]), "=f"(c.value[2]), "=f"(c.value[3])
      : "r"(a.part[0]), "r"(a.part[1]), "r"(b.part[0]), "f"(0.0f));
  return c;
}

/// Products of rows with rows, 16 x 8.
template <int Units>
__device__ inline tensor::Sums product(const LeftRows<Units>& a, const RightRows<Units>& b) {
  tensor::Sums sum;
  if constexpr (Units == 1) {
    sum = multiply(tensor::Left<8>{{a.part[0], a.part[1]}}, tensor::Right<8>{{b.part[0]}});
  } else {
#pragma unroll
    for (int u = 0; u + 1 < Units; u += 2) {
      const tensor::Left<16> left{{a.part[2 * u], a.part[2 * u + 1], a.part[2 * u + 2], a.part[2 * u + 3]}};
      const tensor::Right<16> right{{b.part[u], b.part[u + 1]}};
      if (u == 0)
        sum = multiply(left, right);
      else
        tensor::multiply_add(sum, left, right);
    }
    if constexpr (Units % 2 != 0)
      tensor::multiply_add(sum, tensor::Left<8>{{a.part[2 * Units - 2], a.part[2 * Units - 1]}},
                           tensor::Right<8>{{b.part[Units - 1]}});
  }
  return sum;
}

/// Four 8 x 8 blocks; each lane gives the address of one row, those of a block are eight neighbouring lanes'.
__device__ inline void load_blocks(const BFloat16* row, std::uint32_t (&part)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ inline void load_blocks_transposed(const BFloat16* row, std::uint32_t (&part)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ inline void load_two_blocks(const BFloat16* row, std::uint32_t (&part)[2]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(part[0]), "=r"(part[1])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// The positions of one sequence in the order in which sums go over them: the tokens' own, or the reverse.
template <class T>
struct Positions {
  T* first;
  int step;  ///< from one position to the next
  int length;

  __device__ Positions(const View<T>& x, int sequence, int length_, bool reversed, int column)
      : first(x.data + static_cast<std::size_t>(sequence) * length_ * x.stride + column),
        step(static_cast<int>(x.stride)),
        length(length_) {
    if (!reversed) return;
    first += static_cast<std::ptrdiff_t>(length - 1) * step;
    step = -step;
  }
  __device__ T* at(int position) const { return first + static_cast<std::ptrdiff_t>(position) * step; }
};

/// Rows of heads of Width channels, `Chunk` of which can be read and written at once.
template <int Width, int Chunk>
struct HeadRows {
  static constexpr int units = (Width + 7) / 8;
  static constexpr int padded = 8 * units;
  static constexpr int mixed = units & -units;  ///< that many units of a row change places
  using Left = LeftRows<units>;
  using Right = RightRows<units>;

  /// Where a unit of a row lies in shared memory, such that those of eight neighbouring rows lie in different banks.
  static __device__ int place(int row, int unit) { return row * padded + (unit ^ (row / (8 / mixed) % mixed)) * 8; }

  /// Where a lane finds its row of a fragment in shared memory: for 16 rows as left factors (`left`), or as 2 x 8 right
  /// factors (`right`), unit u and the next, or a last one alone.
  struct Places {
    int left[units];
    int right[units];
    __device__ Places() {
      const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
      for (int u = 0; u < units; u += 2) {
        const bool both = u + 1 < units;
        left[u] = place(lane % 16, both ? u + lane / 16 : u);
        right[u] = both ? place(lane / 16 * 8 + lane % 8, u + lane / 8 % 2) : left[u];
      }
    }
  };
  static __device__ Left left_of(const BFloat16* rows, const Places& places) {
    Left left;
#pragma unroll
    for (int u = 0; u < units; u += 2) {
      if (u + 1 < units)
        load_blocks(rows + places.left[u], reinterpret_cast<std::uint32_t(&)[4]>(left.part[2 * u]));
      else
        load_two_blocks(rows + places.left[u], reinterpret_cast<std::uint32_t(&)[2]>(left.part[2 * u]));
    }
    return left;
  }
  static __device__ void right_of(const BFloat16* rows, const Places& places, Right& first, Right& second) {
#pragma unroll
    for (int u = 0; u + 1 < units; u += 2) {
      std::uint32_t part[4];
      load_blocks(rows + places.right[u], part);
      first.part[u] = part[0];
      first.part[u + 1] = part[1];
      second.part[u] = part[2];
      second.part[u + 1] = part[3];
    }
    if constexpr (units % 2 != 0) {
      std::uint32_t part[2];
      load_two_blocks(rows + places.right[units - 1], part);
      first.part[units - 1] = part[0];
      second.part[units - 1] = part[1];
    }
  }

  /// Positions [first, first + count) of two tensors that lie `apart` in shared memory; 0 behind the end of the
  /// sequence.
  static __device__ void load(BFloat16* to, int apart, const Positions<const BFloat16>& x,
                              const Positions<const BFloat16>& y, int first, int count) {
    using Piece = std::conditional_t<Chunk == 1, cuda::Chunk<std::uint16_t, 1>, cuda::Chunk<std::uint32_t, Chunk / 2>>;
    constexpr int pieces = padded / Chunk;
    constexpr int at_once = 4;
    const int rows = static_cast<int>(blockDim.x) / pieces;
    const int c = static_cast<int>(threadIdx.x) % pieces * Chunk;
    int r = static_cast<int>(threadIdx.x) / pieces;
    if (r >= rows) return;
    const int existing = padded == Width || c < Width ? min(count, x.length - first) : 0;
    const BFloat16* from_x = x.at(first + r) + c;
    const BFloat16* from_y = y.at(first + r) + c;
    for (; r < count; r += at_once * rows) {
      Piece of_x[at_once]{};
      Piece of_y[at_once]{};
#pragma unroll
      for (int k = 0; k < at_once; ++k) {
        if (r + k * rows < existing) {
          of_x[k] = *reinterpret_cast<const Piece*>(from_x);
          of_y[k] = *reinterpret_cast<const Piece*>(from_y);
        }
        from_x += static_cast<std::ptrdiff_t>(rows) * x.step;
        from_y += static_cast<std::ptrdiff_t>(rows) * y.step;
      }
#pragma unroll
      for (int k = 0; k < at_once; ++k) {
        if (r + k * rows >= count) break;
        BFloat16* row = to + place(r + k * rows, c / 8) + c % 8;
        *reinterpret_cast<Piece*>(row) = of_x[k];
        *reinterpret_cast<Piece*>(row + apart) = of_y[k];
      }
    }
  }

  /// 16 positions from `first` on, straight from memory.
  static __device__ Left load_left(const Positions<const BFloat16>& x, int first) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int p = first + lane / 4;
    const int column = lane % 4 * 2;
    const BFloat16* from = x.at(p) + column;
    Left rows;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool here = p + 8 * h < x.length;
#pragma unroll
      for (int u = 0; u < units; ++u) {
        std::uint32_t& pair = rows.part[2 * u + h];
        const auto exists = [&](int c) { return here && (padded == Width || 8 * u + column + c < Width); };
        if constexpr (Chunk >= 2)
          pair = exists(0) ? *reinterpret_cast<const std::uint32_t*>(from + 8 * u) : 0;
        else
          pair = tensor::pack(exists(0) ? to_float(from[8 * u]) : 0.0f, exists(1) ? to_float(from[8 * u + 1]) : 0.0f);
      }
      from += 8 * static_cast<std::ptrdiff_t>(x.step);
    }
    return rows;
  }

  /// Sums of 16 positions from `first` on.
  static __device__ void store(const tensor::Sums (&sum)[units], const Positions<BFloat16>& x, int first) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int p = first + lane / 4;
    const int column = lane % 4 * 2;
    BFloat16* to = x.at(p) + column;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (p + 8 * h >= x.length) break;
#pragma unroll
      for (int u = 0; u < units; ++u) {
        const auto exists = [&](int c) { return padded == Width || 8 * u + column + c < Width; };
        if constexpr (Chunk >= 2) {
          if (exists(0))
            *reinterpret_cast<std::uint32_t*>(to + 8 * u) = tensor::pack(sum[u].value[2 * h], sum[u].value[2 * h + 1]);
        } else {
#pragma unroll
          for (int c = 0; c < 2; ++c)
            if (exists(c)) to[8 * u + c] = __float2bfloat16_rn(sum[u].value[2 * h + c]);
        }
      }
      to += 8 * static_cast<std::ptrdiff_t>(x.step);
    }
  }
};

}  // namespace mad::cuda::toeplitz_tensor
