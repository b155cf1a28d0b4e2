// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the kernels of products of two maps shared by heads have in common. An item is one head of one row.
#pragma once

#include <cstddef>

namespace mad::cuda::head_product {

/// Weights (Out, In) and biases (Out) of both maps.
struct Maps {
  const float* weight[2];
  const float* bias[2];
};

/// Where the sums of a block lie among those of all maps' gradients: of the first map the weight's, then the bias's; of
/// the second likewise.
template <int In, int Out>
struct Gradients {
  static constexpr int weights = Out * In;
  static constexpr int of_map = weights + Out;
  static constexpr int all = 2 * of_map;

  static constexpr __host__ __device__ int weight(int map, int out, int in) { return map * of_map + out * In + in; }
  static constexpr __host__ __device__ int bias(int map, int out) { return map * of_map + weights + out; }
};

/// The first channel of an item in a value of `Heads` heads of `Width` channels.
template <int Heads, int Width>
__device__ inline std::size_t begin_of(unsigned item, unsigned stride) {
  return std::size_t{item / Heads} * stride + item % Heads * Width;
}

}  // namespace mad::cuda::head_product
