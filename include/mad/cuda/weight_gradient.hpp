// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of linear maps that are yet to be computed, as data.
#pragma once

#include <mad/cuda/precision.hpp>

#include <cstddef>

namespace mad::cuda {

/// One linear map's gradients: d_weight (out, in) += dy^T x, and d_bias (out) += the sum of the rows of dy where it is
/// not null.
struct WeightGradient {
  const BFloat16* dy = nullptr;  ///< (rows, out)
  std::size_t dy_stride = 0;
  const BFloat16* x = nullptr;  ///< (rows, in); null where only the bias is wanted
  std::size_t x_stride = 0;
  int out = 0;
  int in = 0;
  float* d_weight = nullptr;
  float* d_bias = nullptr;
};

}  // namespace mad::cuda
