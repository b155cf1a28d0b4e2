// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Small matrix products in float: maps of a filter's network have 2 to 64 columns. cuBLASLt takes 4 to 7 us for one,
/// some of them in two kernels.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <algorithm>
#include <bit>

namespace mad::cuda {

/// Products of so few terms are not worth cuBLASLt's kernels.
constexpr bool is_small_product(Index rows, Index columns, Index inner) {
  return rows * columns * inner <= Index{1} << 21;
}

/// A matrix in memory: from one row to the next, and from one column to the next.
struct SmallFactor {
  const float* data;
  Index row_step;
  Index column_step;
};
/// Where the product goes, and what is added: nothing, a matrix, a row.
struct SmallResult {
  float* data;
  Index stride;
  const float* addend;
  Index addend_stride;
  const float* bias;
};

namespace small_product_detail {

inline constexpr unsigned threads = 256;

/// A team of 2^log_lanes lanes per result.
template <unsigned Threads>
__global__ void __launch_bounds__(Threads) multiply(SmallFactor a, SmallFactor b, SmallResult c, unsigned results,
                                                    unsigned columns, unsigned inner, unsigned log_lanes) {
  const unsigned thread = blockIdx.x * Threads + threadIdx.x;
  const unsigned result = min(thread >> log_lanes, results - 1);
  const unsigned lanes = 1u << log_lanes;
  const unsigned lane = thread & (lanes - 1);
  const unsigned row = result / columns;
  const unsigned column = result % columns;
  const float* left = a.data + row * a.row_step;
  const float* right = b.data + column * b.column_step;
  float sum = 0;
#pragma unroll 8
  for (unsigned k = lane; k < inner; k += lanes) sum += left[k * a.column_step] * right[k * b.row_step];
  for (unsigned offset = lanes / 2; offset > 0; offset /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, static_cast<int>(offset));
  if (lane != 0 || thread >> log_lanes >= results) return;
  if (c.bias != nullptr) sum += c.bias[column];
  if (c.addend != nullptr) sum += c.addend[row * c.addend_stride + column];
  c.data[row * c.stride + column] = sum;
}

}  // namespace small_product_detail

/// C = A B + added, with A (rows, inner) and B (inner, columns). The order of summation depends on \p inner alone.
inline void small_product(Queue& queue, Index rows, Index columns, Index inner, const SmallFactor& a,
                          const SmallFactor& b, const SmallResult& c) {
  namespace d = small_product_detail;
  // A lane adds up about eight terms.
  const Index lanes = std::bit_ceil(static_cast<unsigned>(std::clamp<Index>(inner / 8, 1, 32)));
  const Index results = rows * columns;
  queue.launch("a small product", d::multiply<d::threads>,
               dim3(static_cast<unsigned>((results * lanes + d::threads - 1) / d::threads)), dim3(d::threads), 0, a, b,
               c, results, columns, inner, std::countr_zero(static_cast<unsigned>(lanes)));
}

}  // namespace mad::cuda
