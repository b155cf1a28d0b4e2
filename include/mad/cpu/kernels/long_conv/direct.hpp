// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution as a lower triangular Toeplitz product, for short sequences.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/packets/lanes.hpp>

namespace mad::cpu::detail {

/// Rows `t .. t+Rows-1` of `toeplitz_multiply`, `t` a multiple of `Rows`: `Rows` sums stay in registers, and so does a
/// window of the filter that slides by one tap per input row.
template <int Rows, class T>
void toeplitz_rows(Index t, View<const T> filter, View<const T> x, View<T> y) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet sum[Rows], taps[Rows];
  MAD_UNROLL
  for (int i = 0; i < Rows; ++i) sum[i] = L::zero();
  // Inputs before row t reach all the rows. The window holds taps t-s .. t-s+Rows-1, entry i for row t+i.
  const auto step = [&](Index s, int phase) MAD_ALWAYS_INLINE {
    const int newest = (Rows - phase % Rows) % Rows;  // where the tap t-s goes; the others moved up by one row
    taps[newest] = L::load(filter.row(t - s));
    const Packet input = L::load(x.row(s));
    MAD_UNROLL
    for (int i = 0; i < Rows; ++i) sum[i] = L::mul_add(taps[(newest + i) % Rows], input, sum[i]);
  };
  MAD_UNROLL
  for (int i = 0; i < Rows - 1; ++i) taps[i + 1] = L::load(filter.row(t + 1 + i));
  for (Index s = 0; s < t; s += Rows) {
    MAD_UNROLL
    for (int j = 0; j < Rows; ++j) step(s + j, j);
  }
  // The triangle on the diagonal.
  MAD_UNROLL
  for (int i = 0; i < Rows; ++i) taps[i] = L::load(filter.row(i));
  MAD_UNROLL
  for (int j = 0; j < Rows; ++j) {
    const Packet input = L::load(x.row(t + j));
    MAD_UNROLL
    for (int i = 0; i < Rows; ++i) {
      if (i >= j) sum[i] = L::mul_add(taps[i - j], input, sum[i]);
    }
  }
  MAD_UNROLL
  for (int i = 0; i < Rows; ++i) L::store(y.row(t + i), sum[i]);
}

/// `y[t] = sum_{s<=t} filter[t-s] x[s]` for rows `0 .. length-1`, in each lane of one register. The views may run
/// backwards through memory (negative stride): the two gradients of the product are the same product in reverse.
template <class T>
void toeplitz_multiply(Index length, View<const T> filter, View<const T> x, View<T> y) {
  constexpr int rows = Lanes<T>::registers >= 32 ? 8 : 4;
  Index t = 0;
  for (; t + rows <= length; t += rows) toeplitz_rows<rows>(t, filter, x, y);
  if constexpr (rows == 8) {
    if (t + 4 <= length) {
      toeplitz_rows<4>(t, filter, x, y);
      t += 4;
    }
  }
  if (t + 2 <= length) {
    toeplitz_rows<2>(t, filter, x, y);
    t += 2;
  }
  if (t < length) toeplitz_rows<1>(t, filter, x, y);
}

/// The rows of a view of `length` rows from the last to the first.
template <class T>
View<T> reversed(View<T> x, Index length) {
  return {x.row(length - 1), -x.stride};
}

}  // namespace mad::cpu::detail
