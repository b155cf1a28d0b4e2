// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sigmoid and softplus for kernels that have them inside.
#pragma once

#include <mad/cuda/instructions/approximate.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/ops/elementwise.hpp>

#include <type_traits>

namespace mad::cuda {

/// For values of type T: as exact as floats are, or for what is stored in half of their bits.
template <class T>
struct Gates {
  static constexpr bool exact = sizeof(T) == sizeof(float);
  using Number = std::conditional_t<exact, float, approximate::Number>;
  using Softplus = ops::Formula<&ops::softplus_op>;
  using Sigmoid = ops::Formula<&ops::sigmoid_op>;

  static __device__ float value_of(float x) { return x; }
  static __device__ float value_of(approximate::Number x) { return x.value; }

  /// max(x, 0) + log(1 + e), e = exp(-|x|), and with r = e / (2 + e): log(1 + e) = 2 artanh(r), r <= 1/3.
  static __device__ float softplus(float x) {
    if constexpr (exact) {
      return Softplus::apply(0, x);
    } else {
      const float e = tensor::power_of_two(-1.44269504f * fabsf(x));
      const float r = e * tensor::reciprocal(2 + e);
      const float q = r * r;
      return fmaxf(x, 0.0f) + r * (2 + q * (2.0f / 3 + q * (2.0f / 5 + q * (2.0f / 7))));
    }
  }
  static __device__ float sigmoid(float x) { return value_of(Sigmoid::apply(0, Number(x))); }
  /// \p dy softplus'(x), the slope being sigmoid(x) = 1 - exp(-y) of the x of which \p y is the softplus.
  static __device__ float softplus_gradient(float dy, float y) {
    if constexpr (exact)
      return dy * -expm1f(-y);
    else
      return fmaf(-tensor::power_of_two(-1.44269504f * y), dy, dy);
  }
};

}  // namespace mad::cuda
