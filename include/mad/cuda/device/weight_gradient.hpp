// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of linear maps that are yet to be computed, as data.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/cuda/device/precision.hpp>

#include <cstddef>
#include <vector>

namespace mad::cuda {

/// One linear map's gradients: d_weight (out, in) += dy^T x, and d_bias (out) += the sum of the rows of dy where it is
/// not null.
template <class T>
struct WeightGradientOf {
  const T* dy = nullptr;  ///< (rows, out)
  std::size_t dy_stride = 0;
  const T* x = nullptr;  ///< (rows, in); null where only the bias is wanted
  std::size_t x_stride = 0;
  int out = 0;
  int in = 0;
  float* d_weight = nullptr;
  float* d_bias = nullptr;
};
/// True if two gradients add to the same place: one kernel must not do both.
template <class T>
bool collide(const WeightGradientOf<T>& a, const WeightGradientOf<T>& b) {
  return (a.d_weight != nullptr && a.d_weight == b.d_weight) || (a.d_bias != nullptr && a.d_bias == b.d_bias);
}

/// That are computed together.
inline constexpr int most_weight_gradients = 16;

using WeightGradient = WeightGradientOf<BFloat16>;
using ExactWeightGradient = WeightGradientOf<float>;

class Queue;

/// Gradients that are sums over so many rows, and what starts them all.
template <class T>
struct DeferredGradients {
  std::vector<WeightGradientOf<T>> gradients;
  Index rows = 0;
  bool accumulate = false;  ///< some go to what an epilogue reads
  void (*start)(Queue& queue, const DeferredGradients& deferred) = nullptr;
};

}  // namespace mad::cuda
