// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Matrix products that are yet to be computed, several at once, as data.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/cuda/device/precision.hpp>

#include <array>
#include <cstddef>
#include <vector>

namespace mad::cuda {

/// y (rows, columns) = sum over the terms of x W + bias + addend; y may be the addend's memory.
struct GroupedProduct {
  static constexpr int most_terms = 6;
  struct Term {
    const BFloat16* x = nullptr;  ///< (rows, inner)
    std::size_t x_stride = 0;
    const BFloat16* weight = nullptr;  ///< (columns, inner) without gaps, or else (inner, columns)
    int inner = 0;
    bool in_out = false;  ///< the weight is stored (inner, columns)
  };

  std::array<Term, most_terms> term{};
  int terms = 0;
  int columns = 0;
  BFloat16* y = nullptr;
  std::size_t y_stride = 0;
  const BFloat16* addend = nullptr;  ///< or null
  std::size_t addend_stride = 0;
  const BFloat16* bias = nullptr;  ///< one number per column, or null
};

class Queue;

/// Products of so many rows, none of which reads or writes what another one writes, and what starts them all.
struct PutOffProducts {
  std::vector<GroupedProduct> products;
  Index rows = 0;
  void (*start)(Queue& queue, const PutOffProducts& put_off) = nullptr;
};

}  // namespace mad::cuda
