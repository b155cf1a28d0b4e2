// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Several matrix products at once, by themselves.
#pragma once

#include <mad/core/shape.hpp>

#include <cstdint>
#include <vector>

namespace mad::testing {

/// One product: operands as bits of bfloat16 in rows of whole strides.
struct ProductCase {
  struct Term {
    int inner = 0;
    bool in_out = false;
    Index x_stride = 0;
    std::vector<std::uint16_t> x;
    std::vector<std::uint16_t> weight;
  };
  int columns = 0;
  Index y_stride = 0;
  std::vector<Term> terms;
  std::vector<std::uint16_t> y;
  std::vector<std::uint16_t> bias;    ///< empty without one
  std::vector<std::uint16_t> addend;  ///< empty without one; its stride is y's
  bool adds_to_y = false;             ///< y is the addend
};

/// Computes all y.
void multiply_together_on_device(std::vector<ProductCase>& cases, Index rows);

}  // namespace mad::testing
