// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums over rows and columns: the adjoint of repeating a value.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/packet_loop.hpp>
#include <mad/graph/differentiate.hpp>

#include <Eigen/Core>

#include <algorithm>

namespace mad::cpu {

/// The row r' of `to` to which row r of `from` belongs: its position, its sequence, or the only one.
constexpr Index target_row(Domain from, Domain to, Index row, Index length) {
  if (to == from) return row;
  if (to == Domain::positions) return row % length;
  if (to == Domain::sequences && from == Domain::tokens) return row / length;
  return 0;
}

/// y[r', c'] = sum of x[r, c] over the rows r that belong to r' and the columns c that fold onto c', of `wide` columns
/// `narrow`: all of them, or one. With `add`, added to what is there.
template <class T>
[[gnu::noinline]] void sum(const Shape& shape, Domain from, Domain to, Index wide, Index narrow, bool add,
                           View<const T> x, View<T> y) {
  if (!add)
    for (Index r = 0; r < rows_of(to, shape); ++r) std::fill_n(y.row(r), narrow, T(0));
  for (Index r = 0; r < rows_of(from, shape); ++r) {
    const T* source = x.row(r);
    T* target = y.row(target_row(from, to, r, shape.length));
    if (narrow == 1)
      *target += sum_packets<T>(wide, [&](auto at, Index c) MAD_ALWAYS_INLINE { return at.load(source + c); });
    else
      add_elements(target, source, wide);
  }
}

/// The same where columns fold onto several: c onto c % Narrow (tile), or onto c / (Wide / Narrow) (spread).
template <Index Wide, Index Narrow, Fold How, class T>
void sum_folded(const Shape& shape, Domain from, Domain to, bool add, View<const T> x, View<T> y) {
  if (!add)
    for (Index r = 0; r < rows_of(to, shape); ++r) std::fill_n(y.row(r), Narrow, T(0));
  for (Index r = 0; r < rows_of(from, shape); ++r) {
    const T* source = x.row(r);
    T* target = y.row(target_row(from, to, r, shape.length));
    if constexpr (How == Fold::tile) {
      using Row = Eigen::Matrix<T, 1, Narrow>;
      for (Index c = 0; c < Wide; c += Narrow) Eigen::Map<Row>(target) += Eigen::Map<const Row>(source + c);
    } else {
      constexpr Index copies = Wide / Narrow;
      for (Index c = 0; c < Narrow; ++c)
        target[c] += Eigen::Map<const Eigen::Matrix<T, 1, copies>>(source + c * copies).sum();
    }
  }
}

}  // namespace mad::cpu
