// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Matrix products that are yet to be computed, several at once, as data.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/cuda/device/precision.hpp>

#include <array>
#include <cstddef>
#include <optional>
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

/// The norm of rows: y = xhat w + b (ops/norm.hpp).
template <class T, class U>
struct NormOf {
  const T* x = nullptr;  ///< (rows, width)
  std::size_t x_stride = 0;
  U* y = nullptr;
  std::size_t y_stride = 0;
  int width = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;  ///< or null
  float epsilon = 0;
  bool centred = false;
};
using NormOfRows = NormOf<BFloat16, BFloat16>;

/// The gradient of a norm of whole rows, of what it is given as dy elsewhere.
struct NormGradient {
  const BFloat16* x = nullptr;
  std::size_t x_stride = 0;
  const BFloat16* addend = nullptr;  ///< or null
  std::size_t addend_stride = 0;
  BFloat16* dx = nullptr;
  std::size_t dx_stride = 0;
  const float* weight = nullptr;
  float epsilon = 0;
  bool centred = false;
};

class Queue;
struct Place;

/// A step whose kernel computes the gradient of a norm along, if that comes next and reads what the step computes: a
/// channel mixer.
struct PutOffStep {
  const void* context = nullptr;  ///< the `Context` that the step is called with
  const Place* places = nullptr;  ///< of what it reads, then of what it writes
  int reads = 0;
  int writes = 0;
  int blocks = 0;  ///< of its kernel; each has sums of its own for the gradients of the norm's parameters
  /// True if it can compute a gradient along.
  bool (*takes)(const PutOffStep& step, const BFloat16* dy, std::size_t dy_stride, const NormGradient& norm) = nullptr;
  /// Starts it, with a gradient or, where that is null, alone. `partial`: (blocks, 2 x width).
  void (*start)(const PutOffStep& step, const NormGradient* norm, float* partial) = nullptr;
};

/// Products of so many rows, none of which reads or writes what another one writes, and what starts them all; or a norm
/// and products of it, or a step that is no product.
struct PutOffProducts {
  std::vector<GroupedProduct> products;
  std::optional<NormOfRows> norm;
  std::optional<PutOffStep> step;
  bool is_alone = false;  ///< the only product, or a step, which no other one can join
  Index rows = 0;
  void (*start)(Queue& queue, const PutOffProducts& put_off) = nullptr;
  void (*start_norm)(Queue& queue, const NormOfRows& norm, Index rows) = nullptr;  ///< where there is no product

  bool empty() const { return products.empty() && !norm && !step; }
  void clear() {
    products.clear();
    norm.reset();
    step.reset();
    is_alone = false;
  }
};

}  // namespace mad::cuda
