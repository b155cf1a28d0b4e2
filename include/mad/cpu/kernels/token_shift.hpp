// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows moved by one position within their sequence.
#pragma once

#include <mad/core/view.hpp>

#include <algorithm>

namespace mad::cpu {

/// y_t = x_{t-1}, zero at the first position of each sequence; x and y (tokens, width), in different memory.
template <class T>
void token_shift_forward(const Shape& shape, Index width, View<const T> x, View<T> y) {
  for (Index row = 0; row < shape.tokens(); ++row) {
    if (row % shape.length == 0)
      std::fill_n(y.row(row), width, T(0));
    else
      std::copy_n(x.row(row - 1), width, y.row(row));
  }
}

/// d_x_t = d_y_{t+1}, zero at the last position of each sequence; d_y and d_x (tokens, width), in different memory.
template <class T>
void token_shift_backward(const Shape& shape, Index width, View<const T> d_y, View<T> d_x) {
  for (Index row = 0; row < shape.tokens(); ++row) {
    if ((row + 1) % shape.length == 0)
      std::fill_n(d_x.row(row), width, T(0));
    else
      std::copy_n(d_y.row(row + 1), width, d_x.row(row));
  }
}

/// The next token of each of \p batch sequences: y is what \p state (batch, width) holds, which then becomes x. The
/// state is zero before position 0.
template <class T>
void token_shift_step(Index batch, Index width, View<const T> x, View<T> y, T* state) {
  for (Index b = 0; b < batch; ++b) {
    T* last = state + b * width;
    std::copy_n(last, width, y.row(b));
    std::copy_n(x.row(b), width, last);
  }
}

}  // namespace mad::cpu
