// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows in the registers in which products have them, as the gradient of a norm reads them and sums over them.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/products/factor_norm.cuh>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mad::cuda::norm_gradient_product {

inline constexpr int width = 128;
inline constexpr int sums = 2 * width;  ///< of columns: dw and db

/// Whole rows of a matrix, as products have them, without shared memory: those that are not there are the last one.
__device__ inline void read_rows(const BFloat16* from, unsigned stride, int row, int rows,
                                 tensor::Left<16> (&x)[width / 16]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const BFloat16* own =
        from + static_cast<std::size_t>(min(row + lane / 4 + 8 * half, rows - 1)) * stride + lane % 4 * 2;
#pragma unroll
    for (int s = 0; s < width / 16; ++s) {
      x[s].part[half] = *reinterpret_cast<const std::uint32_t*>(own + s * 16);
      x[s].part[2 + half] = *reinterpret_cast<const std::uint32_t*>(own + s * 16 + 8);
    }
  }
}

/// The sums over a warp's rows of dw and db, of which each lane gets eight; adds them to what it has.
template <class Rows>
struct ColumnSums {
  static constexpr int own = sums / 32;
  float sum[own]{};

  __device__ void add(const Rows& rows, const tensor::Left<16> (&x)[width / 16], const tensor::Sums (&dn)[width / 8],
                      const bool (&here)[2]) {
    float all[2 * Rows::per_lane];  // dw of the lane's columns, then db
#pragma unroll
    for (int i = 0; i < Rows::per_lane; ++i) {
      float d_weight = 0;
      float d_bias = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float d = here[half] ? dn[i / 2].value[2 * half + i % 2] : 0.0f;
        d_weight += d * rows.standardised(x[i / 4].part[i / 2 % 2 * 2 + half], i % 2, half);
        d_bias += d;
      }
      all[i] = d_weight;
      all[Rows::per_lane + i] = d_bias;
    }
    // Lanes with the same columns share them out among them.
    const auto halve = [&]<int Count>(std::integral_constant<int, Count>, unsigned offset) {
      const bool upper = (threadIdx.x & offset) != 0;
#pragma unroll
      for (int i = 0; i < Count; ++i) {
        const float low = all[i];
        const float high = all[i + Count];
        all[i] = (upper ? high : low) + __shfl_xor_sync(0xffffffffu, upper ? low : high, static_cast<int>(offset));
      }
    };
    halve(std::integral_constant<int, 4 * own>{}, 16);
    halve(std::integral_constant<int, 2 * own>{}, 8);
    halve(std::integral_constant<int, own>{}, 4);
#pragma unroll
    for (int i = 0; i < own; ++i) sum[i] += all[i];
  }
  /// To a warp's row of sums: dw, then db.
  __device__ void store(float* to) const {
    const int first = static_cast<int>(threadIdx.x / 16 % 2 * 32 + threadIdx.x / 8 % 2 * 16 + threadIdx.x / 4 % 2 * 8);
#pragma unroll
    for (int i = 0; i < own; ++i)
      to[first / Rows::per_lane * width + Rows::column(first % Rows::per_lane + i)] = sum[i];
  }
};

/// One of a block's sums, from those that so many of its warps have stored, \p stride floats apart, ahead of a barrier
/// of the block.
template <int Warps>
__device__ inline float sum_of_warps(const float* stored, int stride, int column) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < Warps; ++w) sum += stored[w * stride + column];
  return sum;
}

/// The gradient of a norm of a warp's rows: what all numbers of a row share. `g` is dn times the norm's weight.
template <bool Centred>
struct RowGradient {
  using Rows = FactorRows<width, Centred>;

  float mean[2]{};
  float projection[2]{};

  RowGradient() = default;
  /// All of dn becomes g. \param centred as for the rows
  __device__ RowGradient(const Rows& rows, const tensor::Left<16> (&x)[width / 16], tensor::Sums (&dn)[width / 8],
                         const float* norm_weight, bool centred = Centred) {
    float weight[Rows::per_lane];
    Rows::load(norm_weight, weight);
#pragma unroll
    for (int i = 0; i < Rows::per_lane; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& g = dn[i / 2].value[2 * half + i % 2];
        g *= weight[i];
        add(rows, g, x[i / 4].part[i / 2 % 2 * 2 + half], i % 2, half);
      }
    finish(centred);
  }

  /// Takes up g of number \p i of a word of x of row `half`.
  __device__ void add(const Rows& rows, float g, std::uint32_t word, int i, int half) {
    mean[half] += g;
    projection[half] += g * rows.standardised(word, i, half);
  }
  /// All numbers of the rows have been taken up.
  __device__ void finish(bool centred = Centred) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      mean[half] = centred ? lane_sum<4>(mean[half]) * (1.0f / width) : 0.0f;
      projection[half] = lane_sum<4>(projection[half]) * (1.0f / width);
    }
  }
  /// dx of such a number, with its g.
  __device__ float dx(const Rows& rows, float g, std::uint32_t word, int i, int half) const {
    return (g - mean[half] - rows.standardised(word, i, half) * projection[half]) * rows.inverse[half];
  }
};

}  // namespace mad::cuda::norm_gradient_product
