// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums over rows and columns: the adjoint of repeating a value.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/linear.hpp>
#include <mad/graph/differentiate.hpp>

namespace mad::cpu {

/// y[r', c'] = sum of x[r, c] over the rows r that belong to r' (its position, its sequence, or all) and the columns c
/// that fold onto c'. With `Add`, added to what is there.
template <Domain From, Domain To, Index Wide, Index Narrow, Fold How, bool Add, class T>
void sum(const Shape& shape, View<const T> x, View<T> y) {
  const Index rows = rows_of(From, shape);
  if constexpr (!Add) {
    for (Index r = 0; r < rows_of(To, shape); ++r)
      for (Index c = 0; c < Narrow; ++c) y.row(r)[c] = T(0);
  }
  for (Index r = 0; r < rows; ++r) {
    const T* from = x.row(r);
    const Index target = To == From                                          ? r
                         : To == Domain::positions                           ? r % shape.length
                         : To == Domain::sequences && From == Domain::tokens ? r / shape.length
                                                                             : 0;
    T* to = y.row(target);
    if constexpr (Wide == Narrow) {
      using Row = Eigen::Matrix<T, 1, Wide>;
      Eigen::Map<Row>(to) += Eigen::Map<const Row>(from);
    } else if constexpr (Narrow == 1) {
      *to += Eigen::Map<const Eigen::Matrix<T, 1, Wide>>(from).sum();
    } else if constexpr (How == Fold::tile) {
      using Row = Eigen::Matrix<T, 1, Narrow>;
      for (Index c = 0; c < Wide; c += Narrow) Eigen::Map<Row>(to) += Eigen::Map<const Row>(from + c);
    } else {
      constexpr Index copies = Wide / Narrow;
      for (Index c = 0; c < Narrow; ++c)
        to[c] += Eigen::Map<const Eigen::Matrix<T, 1, copies>>(from + c * copies).sum();
    }
  }
}

}  // namespace mad::cpu
