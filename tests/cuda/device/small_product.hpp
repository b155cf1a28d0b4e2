// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A small matrix product in float, by itself.
#pragma once

#include <mad/core/shape.hpp>

#include <vector>

namespace mad::testing {

/// C = A B + added. Both factors and C in rows of whole strides, or columns where a factor is transposed.
struct SmallProductCase {
  Index rows = 0;
  Index columns = 0;
  Index inner = 0;
  bool a_transposed = false;
  bool b_transposed = false;
  bool adds_to_c = false;  ///< C is the addend
  Index a_stride = 0;
  Index b_stride = 0;
  Index c_stride = 0;
  std::vector<float> a{};
  std::vector<float> b{};
  std::vector<float> c{};
  std::vector<float> bias{};    ///< empty without one
  std::vector<float> addend{};  ///< empty without one; its stride is C's
};

/// Computes C.
void multiply_on_device(SmallProductCase& product);

}  // namespace mad::testing
