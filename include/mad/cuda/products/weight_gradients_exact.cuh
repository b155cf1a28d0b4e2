// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of small maps of few rows, in float, many at once: the network that makes a filter has eight of them per
/// layer, and starting a kernel takes longer than computing one.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/device/weight_gradient.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace mad::cuda {

/// True for gradients that are sums of few enough terms to be taken by `add_exact_weight_gradients`.
inline bool are_few(const ExactWeightGradient& g, Index rows) {
  constexpr Index most_rows = 4096;
  constexpr Index most_terms = Index{1} << 24;
  return rows <= most_rows && rows * std::max(g.out, 1) * std::max(g.in, 1) <= most_terms;
}

namespace exact_gradient_detail {

inline constexpr unsigned most = 16;
inline constexpr unsigned most_sources = 4;
inline constexpr unsigned warps = 16;

/// A gradient, and further rows whose sum goes to the same bias.
struct Task {
  ExactWeightGradient of;
  unsigned first_block;
  unsigned more;
  const float* more_dy[most_sources - 1];
  unsigned more_stride[most_sources - 1];
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

/// The sum over a warp's rows of dy, times x where that is not null; `Warps` warps take turns.
template <unsigned Warps>
__device__ inline float sum_of_rows(const float* dy, std::size_t dy_stride, const float* x, std::size_t x_stride,
                                    unsigned first, unsigned rows) {
  constexpr unsigned at_once = 8;
  float sum = 0;
  for (; first < rows; first += at_once * Warps) {
    float a[at_once];
    float b[at_once];
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k) {
      const std::size_t r = min(first + k * Warps, rows - 1);
      a[k] = first + k * Warps < rows ? dy[r * dy_stride] : 0.0f;
      b[k] = x != nullptr ? x[r * x_stride] : 1.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k) sum += a[k] * b[k];
  }
  return sum;
}

/// A block adds up 32 results, one per lane; its warps take turns with the rows. Grid: the tasks' blocks.
template <unsigned Warps>
__global__ void __launch_bounds__(32 * Warps) add(const __grid_constant__ Tasks tasks) {
  __shared__ float of_warp[Warps][32];
  unsigned t = 0;
  while (t + 1 < tasks.count && tasks.task[t + 1].first_block <= blockIdx.x) ++t;
  const Task& task = tasks.task[t];
  const ExactWeightGradient& g = task.of;
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned result = (blockIdx.x - task.first_block) * 32 + lane;
  const bool here = result < results(g);
  const unsigned products = g.x != nullptr ? static_cast<unsigned>(g.out * g.in) : 0;
  const bool of_weight = result < products;
  const unsigned row = !here ? 0 : of_weight ? result / static_cast<unsigned>(g.in) : result - products;
  const float* x = of_weight ? g.x + result % static_cast<unsigned>(g.in) : nullptr;
  float sum = sum_of_rows<Warps>(g.dy + row, g.dy_stride, x, g.x_stride, warp, tasks.rows);
  for (unsigned s = 0; s < task.more; ++s)
    sum += sum_of_rows<Warps>(task.more_dy[s] + row, task.more_stride[s], nullptr, 0, warp, tasks.rows);
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || !here) return;
  float total = 0;
#pragma unroll
  for (unsigned w = 0; w < Warps; ++w) total += of_warp[w][lane];
  float* to = of_weight ? g.d_weight + result : g.d_bias + row;
  *to += total;
}

/// True if the gradient is only a bias's, and that of a task which has room for it.
inline bool goes_with(const Task& task, const ExactWeightGradient& g) {
  return g.x == nullptr && task.of.x == nullptr && task.of.d_bias == g.d_bias && task.of.out == g.out &&
         task.more < most_sources - 1;
}

}  // namespace exact_gradient_detail

/// Adds all gradients; products must go to places of their own. The order of summation depends on the gradients and
/// \p rows alone.
inline void add_exact_weight_gradients(Queue& queue, std::span<const ExactWeightGradient> gradients, Index rows) {
  namespace d = exact_gradient_detail;
  d::Tasks tasks{.task = {}, .count = 0, .rows = static_cast<unsigned>(rows)};
  unsigned blocks = 0;
  const auto start = [&] {
    queue.launch("the gradients of small weights", d::add<d::warps>, dim3(rows > 0 ? blocks : 0), dim3(32 * d::warps),
                 0, tasks);
    tasks.count = blocks = 0;
  };
  for (const ExactWeightGradient& g : gradients) {
    const std::span<d::Task> known(tasks.task, tasks.count);
    const auto same = std::find_if(known.begin(), known.end(), [&](const d::Task& t) { return d::goes_with(t, g); });
    if (same != known.end()) {
      same->more_dy[same->more] = g.dy;
      same->more_stride[same->more++] = static_cast<unsigned>(g.dy_stride);
      continue;
    }
    const auto collides = [&](const d::Task& t) { return collide(t.of, g); };
    if (tasks.count == d::most || std::any_of(known.begin(), known.end(), collides)) start();
    tasks.task[tasks.count++] = {.of = g, .first_block = blocks, .more = 0, .more_dy = {}, .more_stride = {}};
    blocks += (d::results(g) + 31) / 32;
  }
  if (tasks.count > 0) start();
}

}  // namespace mad::cuda
