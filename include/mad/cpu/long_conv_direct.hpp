// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution as a lower triangular Toeplitz product, for short sequences.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/lanes.hpp>

namespace mad::cpu::detail {

/// Rows `t .. t+Rows-1` of `toeplitz_multiply`, `t` a multiple of `Rows`: `Rows` sums stay in registers, and so does a
/// window of the filter that slides by one tap per input row.
template <int Rows, class T>
void toeplitz_rows(Index t, View<const T> filter, View<const T> x, View<T> y) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet sum[Rows], taps[Rows];
  unroll<Rows>([&](auto i) MAD_ALWAYS_INLINE { sum[i] = L::zero(); });
  // Inputs before row t reach all the rows. The window holds taps t-s .. t-s+Rows-1, entry i for row t+i.
  const auto step = [&](Index s, auto phase) MAD_ALWAYS_INLINE {
    constexpr int newest = (Rows - phase % Rows) % Rows;  // where the tap t-s goes; the others moved up by one row
    taps[newest] = L::load(filter.row(t - s));
    const Packet input = L::load(x.row(s));
    unroll<Rows>([&](auto i) MAD_ALWAYS_INLINE { sum[i] = L::mul_add(taps[(newest + i) % Rows], input, sum[i]); });
  };
  unroll<Rows - 1>([&](auto i) MAD_ALWAYS_INLINE { taps[i + 1] = L::load(filter.row(t + 1 + i)); });
  for (Index s = 0; s < t; s += Rows) {
    unroll<Rows>([&](auto j) MAD_ALWAYS_INLINE { step(s + j, j); });
  }
  // The triangle on the diagonal.
  unroll<Rows>([&](auto i) MAD_ALWAYS_INLINE { taps[i] = L::load(filter.row(i)); });
  unroll<Rows>([&](auto j) MAD_ALWAYS_INLINE {
    const Packet input = L::load(x.row(t + j));
    unroll<Rows - j>([&](auto i) MAD_ALWAYS_INLINE { sum[i + j] = L::mul_add(taps[i], input, sum[i + j]); });
  });
  unroll<Rows>([&](auto i) MAD_ALWAYS_INLINE { L::store(y.row(t + i), sum[i]); });
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
