// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How kernels see memory: a row-major matrix whose rows lie a stride apart.
#pragma once

#include <mad/core/shape.hpp>

#include <type_traits>

namespace mad {

/// Rows of numbers, `stride` elements from one row to the next. The number of rows and the width are known to the
/// kernel from elsewhere (the domain and the node), so that a view stays two words. A slice of columns is a view with
/// a shifted pointer and the stride of its base.
template <class T>
struct View {
  T* data = nullptr;
  Index stride = 0;

  constexpr T* row(Index r) const { return data + r * stride; }
  constexpr View rows_from(Index r) const { return {row(r), stride}; }
  constexpr View columns_from(Index c) const { return {data + c, stride}; }

  /// Reading through a view that could write. (A template, because nvcc warns of a conversion of View<const T> to
  /// itself.)
  template <class U>
  requires(std::is_same_v<U, const T> && !std::is_const_v<T>) constexpr operator View<U>() const {
    return {data, stride};
  }
};

}  // namespace mad
