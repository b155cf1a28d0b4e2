// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A norm and matrix products of it in one kernel, by itself.
#pragma once

#include <mad/core/shape.hpp>

#include <cstdint>
#include <vector>

namespace mad::testing {

/// Bits of bfloat16 in rows of whole strides, of 128 columns where nothing else is said.
struct NormedProductsCase {
  struct Product {
    int columns = 0;
    Index stride = 0;
    std::vector<std::uint16_t> weight;
    std::vector<std::uint16_t> bias;  ///< empty without one
    std::vector<std::uint16_t> y;
  };
  bool centred = false;
  float epsilon = 0;
  Index x_stride = 0;
  Index norm_stride = 0;
  std::vector<std::uint16_t> x;
  std::vector<float> weight;
  std::vector<float> bias;  ///< empty without one
  std::vector<std::uint16_t> norm;
  std::vector<Product> products;
};

/// Computes the norm and all y. False where the device has no such kernel.
bool multiply_norm_on_device(NormedProductsCase& c, Index rows);

}  // namespace mad::testing
