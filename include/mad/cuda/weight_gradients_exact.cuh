// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of small maps of few rows, in float, many at once: the network that makes a filter has eight of them per
/// layer, and starting a kernel takes longer than computing one.
#pragma once

#include <mad/cuda/queue.hpp>
#include <mad/cuda/weight_gradient.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace mad::cuda {

/// True for gradients that are sums of few enough terms to be taken together by `add_exact_weight_gradients`.
inline bool are_few(const ExactWeightGradient& g, Index rows) {
  constexpr Index most_rows = 4096;
  constexpr Index most_terms = Index{1} << 24;
  return rows <= most_rows && rows * std::max(g.out, 1) * std::max(g.in, 1) <= most_terms;
}

namespace exact_gradient_detail {

inline constexpr unsigned most = 16;
inline constexpr unsigned warps = 16;

struct Task {
  ExactWeightGradient of;
  unsigned first_block;
};
struct Tasks {
  Task task[most];
  unsigned count;
  unsigned rows;
};

/// Results of a gradient: those of the weight, then those of the bias.
inline __host__ __device__ unsigned results(const ExactWeightGradient& g) {
  return static_cast<unsigned>((g.x != nullptr ? g.out * g.in : 0) + (g.d_bias != nullptr ? g.out : 0));
}

/// A block adds up 32 results, one per lane; its warps take turns with the rows. Grid: the tasks' blocks.
inline __global__ void __launch_bounds__(32 * warps) add(const __grid_constant__ Tasks tasks) {
  constexpr unsigned at_once = 8;
  __shared__ float of_warp[warps][32];
  unsigned t = 0;
  while (t + 1 < tasks.count && tasks.task[t + 1].first_block <= blockIdx.x) ++t;
  const ExactWeightGradient& g = tasks.task[t].of;
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned result = (blockIdx.x - tasks.task[t].first_block) * 32 + lane;
  const bool here = result < results(g);
  const unsigned products = g.x != nullptr ? static_cast<unsigned>(g.out * g.in) : 0;
  const bool of_weight = result < products;
  const unsigned row = of_weight ? result / static_cast<unsigned>(g.in) : result - products;
  const float* dy = g.dy + (here ? row : 0);
  const float* x = of_weight ? g.x + result % static_cast<unsigned>(g.in) : nullptr;
  float sum = 0;
  for (unsigned first = warp; first < tasks.rows; first += at_once * warps) {
    float a[at_once];
    float b[at_once];
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k) {
      const std::size_t r = min(first + k * warps, tasks.rows - 1);
      a[k] = first + k * warps < tasks.rows ? dy[r * g.dy_stride] : 0.0f;
      b[k] = x != nullptr ? x[r * g.x_stride] : 1.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k) sum += a[k] * b[k];
  }
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || !here) return;
  float total = 0;
#pragma unroll
  for (unsigned w = 0; w < warps; ++w) total += of_warp[w][lane];
  float* to = of_weight ? g.d_weight + result : g.d_bias + row;
  *to += total;
}

}  // namespace exact_gradient_detail

/// Adds all gradients, at most 16, to places that do not overlap. The order of summation depends on \p rows alone.
inline void add_exact_weight_gradients(Queue& queue, std::span<const ExactWeightGradient> gradients, Index rows) {
  namespace d = exact_gradient_detail;
  if (gradients.size() > d::most) throw Error("CUDA: too many gradients of weights at once");
  if (rows == 0) return;
  d::Tasks tasks{.task = {}, .count = static_cast<unsigned>(gradients.size()), .rows = static_cast<unsigned>(rows)};
  unsigned blocks = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    tasks.task[i] = {gradients[i], blocks};
    blocks += (d::results(gradients[i]) + 31) / 32;
  }
  queue.launch("the gradients of small weights", d::add, dim3(blocks), dim3(32 * d::warps), 0, tasks);
}

}  // namespace mad::cuda
