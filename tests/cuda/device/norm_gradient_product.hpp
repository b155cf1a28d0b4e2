// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of a norm with the products whose sum it is given, in one kernel, by itself.
#pragma once

#include <mad/core/shape.hpp>

#include <cstdint>
#include <vector>

namespace mad::testing {

/// Bits of bfloat16 in rows of whole strides, of 128 columns where nothing else is said.
struct NormGradientCase {
  struct Term {
    int inner = 0;
    Index stride = 0;
    std::vector<std::uint16_t> dy;
    std::vector<std::uint16_t> weight;  ///< (inner, 128)
  };
  bool centred = false;
  float epsilon = 0;
  Index x_stride = 0;
  Index addend_stride = 0;
  Index dx_stride = 0;
  std::vector<Term> terms;
  std::vector<std::uint16_t> x;
  std::vector<std::uint16_t> addend;  ///< empty without one
  std::vector<float> weight;
  std::vector<std::uint16_t> dx;
  bool in_place = false;     ///< dx goes where the addend is
  std::vector<double> sums;  ///< dw, then db
};

/// Computes dx and the sums. False where the device has no such kernel.
bool norm_gradient_on_device(NormGradientCase& c, Index rows);

}  // namespace mad::testing
