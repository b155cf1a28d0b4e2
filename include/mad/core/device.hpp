// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a formula written once may use on every device: the attribute for functions, and elementary functions of a
/// single number. Packs of numbers bring functions of the same names, found by argument.
#pragma once

#include <cmath>
#include <type_traits>

/// Marks a function that host and device code may call.
#ifdef __CUDACC__
#define MAD_ANY_DEVICE __host__ __device__
#else
#define MAD_ANY_DEVICE
#endif

namespace mad::math {

template <class X>
concept Number = std::is_floating_point_v<X>;

template <Number X>
MAD_ANY_DEVICE inline X exp(X a) {
  return std::exp(a);
}
template <Number X>
MAD_ANY_DEVICE inline X log(X a) {
  return std::log(a);
}
template <Number X>
MAD_ANY_DEVICE inline X log1p(X a) {
  return std::log1p(a);
}
template <Number X>
MAD_ANY_DEVICE inline X expm1(X a) {
  return std::expm1(a);
}
template <Number X>
MAD_ANY_DEVICE inline X sqrt(X a) {
  return std::sqrt(a);
}
template <Number X>
MAD_ANY_DEVICE inline X tanh(X a) {
  return std::tanh(a);
}
template <Number X>
MAD_ANY_DEVICE inline X sin(X a) {
  return std::sin(a);
}
template <Number X>
MAD_ANY_DEVICE inline X cos(X a) {
  return std::cos(a);
}
template <Number X>
MAD_ANY_DEVICE inline X erf(X a) {
  return std::erf(a);
}
template <Number X>
MAD_ANY_DEVICE inline X abs(X a) {
  return a < X(0) ? -a : a;
}
template <Number X>
MAD_ANY_DEVICE inline X max(X a, X b) {
  return a < b ? b : a;
}
/// 1 for a > 0, else 0: the derivative of relu as the reference's framework takes it.
template <Number X>
MAD_ANY_DEVICE inline X step(X a) {
  return a > X(0) ? X(1) : X(0);
}

}  // namespace mad::math
