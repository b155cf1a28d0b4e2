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

  /// max(x, 0) + log(1 + e), e = exp(-|x|). Of log(1 + e) = e p(e) the polynomial is off by at most 6e-5 of the whole,
  /// a thirtieth of what rounding to bfloat16 may be, and has no further function but exp in it.
  static __device__ float softplus(float x) {
    if constexpr (exact) {
      return Softplus::apply(0, x);
    } else {
      const float e = tensor::power_of_two(-1.44269504f * fabsf(x));
      const float p = 0.99994328f + e * (-0.49697781f + e * (0.30630093f + e * (-0.15742721f + e * 0.04134730f)));
      return fmaxf(x, 0.0f) + e * p;
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
