// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The output head of few classes with the norm in front of it, forward and backward in one kernel:
///
///     normed = norm(x),   logits = normed W^T + b,   d_logits = (softmax(logits) - target) / counted,
///     dn = d_logits W,    dx = the gradient of the norm at x, given dn
///
/// for rows of 128 numbers (formulas in ops/norm.hpp and output_head.cuh). A warp has 16 rows in registers; normed is
/// stored for the gradient of W alone, and dn is nowhere in memory.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/output_head.cuh>
#include <mad/cuda/products/factor_norm.cuh>
#include <mad/cuda/products/norm_gradient_rows.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda {

namespace normed_head_detail {

namespace d = output_head_detail;
using norm_gradient_product::sums;
using norm_gradient_product::width;

inline constexpr int threads = d::threads;
inline constexpr int warps = threads / 32;
inline constexpr int blocks_at_once = 2;  ///< on a multiprocessor
inline constexpr int stages = 2;          ///< tiles of 16 rows of a warp, in shared memory or on their way to it
inline constexpr int stride = d::stride_of(width);
inline constexpr int tile = d::rows_per_warp * stride;

struct Operands {
  OutputHead head;  ///< of no x
  CrossEntropy<BFloat16> n;
  NormOfRows norm;  ///< y null: not wanted
  float* partial;   ///< (blocks, 2 x 128) sums for the gradients of the norm's weight and bias
  unsigned rows;
};

/// A warp's next tile on its way to shared memory, if there is one.
__device__ inline void fetch(BFloat16* to, const Operands& of, unsigned first) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (first < of.rows) {
#pragma unroll
    for (int i = lane; i < d::rows_per_warp * width / 8; i += 32) {
      const unsigned row = min(first + static_cast<unsigned>(i / (width / 8)), of.rows - 1);
      const int c = i % (width / 8) * 8;
      copy_async<8>(to + i / (width / 8) * stride + c, of.norm.x + row * of.norm.x_stride + c);
    }
  }
  commit_copies();
}

/// Words of 16 rows, as products have them, to rows of shared memory.
__device__ inline void put(BFloat16* rows, const tensor::Left<16>& words, int s) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int part = 0; part < 4; ++part)
    *reinterpret_cast<std::uint32_t*>(rows + (lane / 4 + part % 2 * 8) * stride + s * 16 + part / 2 * 8 +
                                      lane % 4 * 2) = words.part[part];
}

/// Grid: blocks whose warps go from one tile of 16 rows to the next.
template <int Tiles, bool Centred>
__global__ void __launch_bounds__(threads, blocks_at_once) kernel(const __grid_constant__ Operands of) {
  constexpr int classes = 16 * Tiles;
  using Rows = FactorRows<width, Centred>;
  extern __shared__ float4 dynamic_memory[];
  __shared__ d::Counts<classes> counts;
  __shared__ double losses[warps];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  BFloat16* weight = reinterpret_cast<BFloat16*>(dynamic_memory);
  BFloat16* buffer = weight + classes * stride + warp * stages * tile;
  const unsigned step = gridDim.x * warps * d::rows_per_warp;
  unsigned first = (blockIdx.x * warps + static_cast<unsigned>(warp)) * d::rows_per_warp;
  fetch(buffer, of, first);
  d::fetch_rows(weight, of.head.weight, classes, classes, width, static_cast<int>(threadIdx.x), threads);
  commit_copies();
  counts.clear();
  wait_for_copies<0>();
  __syncthreads();

  const float factor = d::share_of_mean(*of.n.tally);
  double loss = 0;
  norm_gradient_product::ColumnSums<Rows> columns;
#pragma unroll 1
  for (int stage = 0; first < of.rows; first += step, stage ^= 1) {
    BFloat16* rows_in_memory = buffer + stage * tile;
    __syncwarp();  // all lanes have stored the tile before, whose place the next one takes
    fetch(buffer + (stage ^ 1) * tile, of, first + step);
    const int here = static_cast<int>(min(of.rows - first, unsigned{d::rows_per_warp}));
    const d::Targets targets(of.n.targets, first, here);
    wait_for_copies<1>();
    __syncwarp();
    tensor::Left<16> x[width / 16];
#pragma unroll
    for (int s = 0; s < width / 16; ++s)
      tensor::load_matrices<false>(rows_in_memory + lane % 16 * stride + s * 16 + lane / 16 * 8, x[s].part);
    const Rows rows(x, of.norm.epsilon);
    tensor::Sums logits[2 * Tiles];
    __syncwarp();  // all lanes have read the rows
#pragma unroll
    for (int s = 0; s < width / 16; ++s) {
      const auto normed = FactorNorm<width, Centred, Centred>::of_step(x[s], rows, s, of.norm.weight, of.norm.bias);
      d::add_products<Tiles>(logits, normed, weight, stride, s * 16);
      if (of.norm.y != nullptr) put(rows_in_memory, normed, s);
    }
    if (of.norm.y != nullptr) {
      __syncwarp();
      d::store_rows(of.norm.y + first * of.norm.y_stride, of.norm.y_stride, rows_in_memory, here, width);
    }
    const d::LogitGradient<Tiles> d_logits =
        d::losses_of_rows<Tiles>(of.head, of.n, factor, targets, logits, first, here, counts, loss);
    if (of.head.dx == nullptr) continue;
    tensor::Sums dn[width / 8];
#pragma unroll
    for (int s = 0; s < width / 16; ++s) d_logits.multiply_add(dn[2 * s], dn[2 * s + 1], weight, stride, s * 16);
    const bool is_here[2] = {lane / 4 < here, lane / 4 + 8 < here};
    columns.add(rows, x, dn, is_here);
    const norm_gradient_product::RowGradient<Centred> gradient(rows, x, dn, of.norm.weight);
    __syncwarp();  // normed has been stored
#pragma unroll
    for (int s = 0; s < width / 16; ++s) {
      tensor::Left<16> dx;
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        float two[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          two[i] = gradient.dx(rows, dn[2 * s + part / 2].value[part % 2 * 2 + i], x[s].part[part], i, part % 2);
        dx.part[part] = tensor::pack(two[0], two[1]);
      }
      put(rows_in_memory, dx, s);
    }
    __syncwarp();
    d::store_rows(of.head.dx + std::size_t{first} * width, width, rows_in_memory, here, width);
  }
  wait_for_copies<0>();
  loss = lane_sum<32>(loss);
  if (lane == 0) losses[warp] = loss;
  __syncthreads();
  counts.add_to(of.n.hits);
  if (threadIdx.x == 0) {
    double total = 0;
#pragma unroll
    for (double of_warp : losses) total += of_warp;
    of.n.partial[blockIdx.x] = total;
  }
  if (of.head.dx == nullptr) return;
  auto* column_sums = reinterpret_cast<float*>(weight + classes * stride);  // the tiles have left
  columns.store(column_sums + warp * sums);
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < sums; c += threads)
    of.partial[blockIdx.x * sums + static_cast<unsigned>(c)] =
        norm_gradient_product::sum_of_warps<warps>(column_sums, sums, c);
}

}  // namespace normed_head_detail

/// True where `normed_output_head` takes a norm and a head: 16, 32 or 64 classes, rows of 128 numbers that begin at
/// multiples of 16 bytes, a norm that is centred and has a bias, or neither.
inline bool takes_normed_head(const NormOfRows& norm, Index classes, const BFloat16* weight, const BFloat16* dx) {
  const auto aligned = [](const BFloat16* p, std::size_t stride) {
    return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && stride % 8 == 0;
  };
  return norm.width == normed_head_detail::width && norm.centred == (norm.bias != nullptr) &&
         (classes == 16 || classes == 32 || classes == 64) && aligned(norm.x, norm.x_stride) &&
         aligned(norm.y, norm.y_stride) && aligned(weight, 0) && aligned(dx, 0) &&
         reinterpret_cast<std::uintptr_t>(norm.weight) % 8 == 0 && reinterpret_cast<std::uintptr_t>(norm.bias) % 8 == 0;
}

/// Blocks of `normed_output_head`, each of which leaves 2 x 128 sums.
inline Index normed_head_blocks(const Queue& queue, Index rows) {
  namespace d = normed_head_detail;
  return std::min<Index>((rows + output_head_detail::rows_per_block - 1) / output_head_detail::rows_per_block,
                         Index{d::blocks_at_once} * queue.multiprocessors());
}

/// The norm of `rows` rows, their logits and losses and, if `head.dx` is not null, gradients; with the last rows of a
/// batch its metrics. `head.x` is not read: the rows are the norm's.
/// \param partial (normed_head_blocks, 2 x 128): sums for the gradients of the norm's weight and bias; null without dx
template <class = void>
void normed_output_head(Queue& queue, const NormOfRows& norm, const OutputHead& head, CrossEntropy<BFloat16> n,
                        Index rows, Index classes, float* partial) {
  namespace d = normed_head_detail;
  const Index blocks = normed_head_blocks(queue, rows);
  n.partial = queue.take_for_aside<double>(blocks);
  const d::Operands of{head, n, norm, partial, static_cast<unsigned>(rows)};
  const auto bytes = static_cast<std::size_t>(classes * d::stride + d::warps * d::stages * d::tile) * sizeof(BFloat16);
  const auto launch = [&](auto kernel) {
    queue.launch("the output head and its norm", kernel, dim3(static_cast<unsigned>(blocks)), dim3(d::threads), bytes,
                 of);
  };
  if (norm.centred)
    launch(classes == 16 ? d::kernel<1, true> : classes == 32 ? d::kernel<2, true> : d::kernel<4, true>);
  else
    launch(classes == 16 ? d::kernel<1, false> : classes == 32 ? d::kernel<2, false> : d::kernel<4, false>);
  add_up_losses(queue, n, blocks, classes);
}

}  // namespace mad::cuda
