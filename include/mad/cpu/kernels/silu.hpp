// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// silu(x) = x sigmoid(x) and its slope, for kernels that have it inside: numbers or packs of them.
#pragma once

#include <mad/cpu/packets/pack.hpp>
#include <mad/ops/elementwise.hpp>

namespace mad::cpu {

template <class X>
MAD_ALWAYS_INLINE inline X sigmoid(X x) {
  return ops::Formula<&ops::sigmoid_op>::apply<X>(0, x);
}

/// silu(x) = x s and silu'(x) = s + x s (1 - s) with s = sigmoid(x).
template <class X>
struct Silu {
  X x, s;

  MAD_ALWAYS_INLINE inline explicit Silu(X at) : x(at), s(sigmoid(at)) {}
  MAD_ALWAYS_INLINE inline X value() const { return x * s; }
  MAD_ALWAYS_INLINE inline X slope() const { return s + x * s * (X(1) - s); }
};

}  // namespace mad::cpu
