// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softplus of rows, and its slope where only its value is known: numbers or packs of them.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/packets/pack.hpp>
#include <mad/ops/elementwise.hpp>

namespace mad::cpu {

/// x = softplus(x); x (rows, columns).
template <class T>
void softplus_rows(Index rows, Index columns, View<T> x) {
  for (Index r = 0; r < rows; ++r)
    for_packs<T>(columns, [&]<class X>(X, Index c) MAD_ALWAYS_INLINE {
      T* const at = x.row(r) + c;
      store_pack(at, ops::Formula<&ops::softplus_op>::apply<X>(0, load_pack<X>(at)));
    });
}

/// softplus'(x) = sigmoid(x) = 1 - exp(-y) of the x of which \p y is the softplus, to the last digits of a small y,
/// too.
template <class X>
MAD_ALWAYS_INLINE inline X softplus_slope(X y) {
  using namespace math;
  return -expm1(-y);
}

}  // namespace mad::cpu
