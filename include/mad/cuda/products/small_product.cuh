// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Small matrix products in float: maps of a filter's network have 2 to 64 columns. cuBLASLt takes 4 to 7 us for one,
/// some of them in two kernels.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <algorithm>
#include <bit>
#include <cstdint>

namespace mad::cuda {

/// Products of so few terms are not worth cuBLASLt's kernels. Their factors, whose rows lie at most \p stride numbers
/// apart, are so small that 32 bits count what is in them.
constexpr bool is_small_product(Index rows, Index columns, Index inner, Index stride) {
  return rows * columns * inner <= Index{1} << 21 && std::max({rows, columns, inner}) * stride < Index{1} << 31;
}

/// A matrix in memory: from one row to the next, and from one column to the next.
struct SmallFactor {
  const float* data;
  unsigned row_step;
  unsigned column_step;
};
/// Where the product goes, and what is added: nothing, a matrix (it may be the result's memory), a row.
struct SmallResult {
  float* data;
  Index stride;
  const float* addend;
  Index addend_stride;
  const float* bias;
};

namespace small_product_detail {

// A filter's network runs beside the rest of a pass, whose kernels leave few multiprocessors free, or little room on
// each: blocks are small, and a thread has 32 registers.
inline constexpr unsigned threads = 128;
inline constexpr unsigned blocks_at_once = 16;

/// What is added to a result.
__device__ inline float added_to(const SmallResult& c, unsigned row, unsigned column) {
  const float bias = c.bias != nullptr ? c.bias[column] : 0;
  return c.addend != nullptr ? bias + c.addend[row * c.addend_stride + column] : bias;
}

/// A team of 2^log_lanes neighbouring lanes has Rows neighbouring rows of a column. Lane l has the terms l, l + lanes,
/// l + 2 lanes, ... of their sums, and AtOnce of them on their way.
template <unsigned Rows, unsigned AtOnce>
__global__ void __launch_bounds__(threads, blocks_at_once)
    multiply(SmallFactor a, SmallFactor b, SmallResult c, unsigned rows, unsigned columns, unsigned inner,
             unsigned log_lanes) {
  const unsigned thread = blockIdx.x * threads + threadIdx.x;
  const unsigned lanes = 1u << log_lanes;
  const unsigned lane = thread & (lanes - 1);
  const unsigned row = (thread >> log_lanes) / columns * Rows;
  const unsigned column = (thread >> log_lanes) % columns;
  unsigned left = row * a.row_step + lane * a.column_step;
  unsigned right = column * b.column_step + lane * b.row_step;
  // Of a single result this is loaded with its first terms; of several it would take registers.
  float added = Rows == 1 && lane == 0 && row < rows ? added_to(c, row, column) : 0;
  float sum[Rows]{};
#pragma unroll 1
  for (unsigned k = lane; k < inner; k += AtOnce * lanes) {
    float x[AtOnce][Rows];
    float y[AtOnce];
#pragma unroll
    for (unsigned j = 0; j < AtOnce; ++j) {
      const bool is_term = k + j * lanes < inner;
#pragma unroll
      for (unsigned r = 0; r < Rows; ++r) x[j][r] = is_term && row + r < rows ? a.data[left + r * a.row_step] : 0;
      y[j] = is_term && row < rows ? b.data[right] : 0;
      left += lanes * a.column_step;
      right += lanes * b.row_step;
    }
#pragma unroll
    for (unsigned j = 0; j < AtOnce; ++j)
#pragma unroll
      for (unsigned r = 0; r < Rows; ++r) sum[r] += x[j][r] * y[j];
  }
  for (unsigned offset = lanes / 2; offset > 0; offset /= 2)
#pragma unroll
    for (unsigned r = 0; r < Rows; ++r) sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], static_cast<int>(offset));
  if (lane != 0) return;
#pragma unroll
  for (unsigned r = 0; r < Rows; ++r) {
    if (row + r >= rows) return;
    if (Rows > 1) added = added_to(c, row + r, column);
    c.data[(row + r) * c.stride + column] = sum[r] + added;
  }
}

template <unsigned Rows, unsigned AtOnce>
void launch(Queue& queue, unsigned rows, unsigned columns, unsigned inner, const SmallFactor& a, const SmallFactor& b,
            const SmallResult& c) {
  // A lane adds up about eight terms.
  const unsigned lanes = std::bit_ceil(std::clamp(inner / 8, 1u, 32u));
  const unsigned teams = (rows + Rows - 1) / Rows * columns;
  queue.launch("a small product", multiply<Rows, AtOnce>, dim3((teams * lanes + threads - 1) / threads), dim3(threads),
               0, a, b, c, rows, columns, inner, static_cast<unsigned>(std::countr_zero(lanes)));
}

/// A block has two rows by four columns of results; thread t has the terms t, t + threads, ... of their sums. With
/// Whole the four columns lie side by side on 16 bytes.
template <bool Whole>
__global__ void __launch_bounds__(threads, blocks_at_once)
    multiply_long(SmallFactor a, SmallFactor b, SmallResult c, unsigned rows, unsigned columns, unsigned inner) {
  constexpr unsigned at_once = Whole ? 2 : 1;  // terms on their way
  constexpr unsigned results = 8;
  __shared__ float sums[threads / 32][results];
  const unsigned across = (columns + 3) / 4;
  const unsigned row = blockIdx.x / across * 2;
  const unsigned column = blockIdx.x % across * 4;
  const unsigned my_row = row + threadIdx.x / 4;
  const unsigned my_column = column + threadIdx.x % 4;
  const bool has_result = threadIdx.x < results && my_row < rows && my_column < columns;
  const float added = has_result ? added_to(c, my_row, my_column) : 0;
  const unsigned below = row + 1 < rows ? a.row_step : 0;
  unsigned left = row * a.row_step + threadIdx.x * a.column_step;
  unsigned right = column * b.column_step + threadIdx.x * b.row_step;
  float sum[results]{};
#pragma unroll 1
  for (unsigned k = threadIdx.x; k < inner; k += at_once * threads) {
    float x[at_once][2]{};
    float y[at_once][4]{};
#pragma unroll
    for (unsigned j = 0; j < at_once; ++j) {
      if (k + j * threads < inner) {
        x[j][0] = a.data[left];
        x[j][1] = a.data[left + below];
        if constexpr (Whole) {
          const auto four = *reinterpret_cast<const Chunk<float, 4>*>(b.data + right);
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) y[j][i] = four.value[i];
        } else {
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) y[j][i] = column + i < columns ? b.data[right + i * b.column_step] : 0;
        }
      }
      left += threads * a.column_step;
      right += threads * b.row_step;
    }
#pragma unroll
    for (unsigned j = 0; j < at_once; ++j)
#pragma unroll
      for (unsigned i = 0; i < results; ++i) sum[i] += x[j][i / 4] * y[j][i % 4];
  }
  // Two lanes at a time share what is left to them: lane l ends with result l / 4.
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned left_over = results / 2, offset = 16; left_over > 0; left_over /= 2, offset /= 2) {
    const bool is_upper = (lane & offset) != 0;
#pragma unroll
    for (unsigned i = 0; i < left_over; ++i) {
      const float given = __shfl_xor_sync(0xffffffffu, is_upper ? sum[i] : sum[i + left_over], offset);
      sum[i] = (is_upper ? sum[i + left_over] : sum[i]) + given;
    }
  }
  sum[0] += __shfl_xor_sync(0xffffffffu, sum[0], 2);
  sum[0] += __shfl_xor_sync(0xffffffffu, sum[0], 1);
  if (lane % 4 == 0) sums[threadIdx.x / 32][lane / 4] = sum[0];
  __syncthreads();
  if (!has_result) return;
  float total = 0;
#pragma unroll
  for (unsigned w = 0; w < threads / 32; ++w) total += sums[w][threadIdx.x];
  c.data[my_row * c.stride + my_column] = total + added;
}

template <bool Whole>
void launch_long(Queue& queue, unsigned rows, unsigned columns, unsigned inner, const SmallFactor& a,
                 const SmallFactor& b, const SmallResult& c) {
  queue.launch("a small product of long sums", multiply_long<Whole>, dim3((rows + 1) / 2 * ((columns + 3) / 4)),
               dim3(threads), 0, a, b, c, rows, columns, inner);
}

}  // namespace small_product_detail

/// C = A B + added, with A (rows, inner) and B (inner, columns). The order of summation depends on sizes alone.
inline void small_product(Queue& queue, Index rows, Index columns, Index inner, const SmallFactor& a,
                          const SmallFactor& b, const SmallResult& c) {
  namespace d = small_product_detail;
  const auto start = [&](auto launch) {
    launch(queue, static_cast<unsigned>(rows), static_cast<unsigned>(columns), static_cast<unsigned>(inner), a, b, c);
  };
  // Many results: what is read of B is multiplied with four rows. Few long sums, such as the gradient of a filter's
  // network: a block for each few, so that there are warps enough to have all terms on their way. Everything else takes
  // as long as its first load.
  if (rows * columns > 1 << 13)
    start(d::launch<4, 2>);
  else if (inner < 64)
    start(d::launch<1, 4>);
  else if (columns % 4 == 0 && b.column_step == 1 && b.row_step % 4 == 0 &&
           reinterpret_cast<std::uintptr_t>(b.data) % 16 == 0)
    start(d::launch_long<true>);
  else
    start(d::launch_long<false>);
}

}  // namespace mad::cuda
