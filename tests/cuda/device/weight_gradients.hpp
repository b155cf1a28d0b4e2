// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of several weights at once, by themselves.
#pragma once

#include <mad/core/shape.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mad::testing {

/// One map: operands as bits of bfloat16 in rows of whole strides, and what is added to.
struct WeightGradientCase {
  int out = 0;
  int in = 0;
  Index dy_stride = 0;
  Index x_stride = 0;
  std::vector<std::uint16_t> dy;
  std::vector<std::uint16_t> x;
  std::vector<float> d_weight;
  std::vector<float> d_bias;  ///< empty without a bias
  bool shares_bias = false;   ///< adds to the bias of the case before; only in float
};

/// Adds the gradients on the device.
void add_weight_gradients_on_device(std::vector<WeightGradientCase>& cases, Index rows);

/// The same in float by the kernel for small maps; a map with no inputs has a bias alone.
void add_exact_weight_gradients_on_device(std::vector<WeightGradientCase>& cases, Index rows);

/// Which maps the kernel takes: out, in, the strides, and how far the rows are from multiples of 16 bytes.
bool takes_weight_gradient(int out, int in, std::size_t dy_stride, std::size_t x_stride, std::size_t bytes);

}  // namespace mad::testing
