// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The little arithmetic that descriptions need in constant expressions.
#pragma once

namespace mad {

/// The smallest multiple of `multiple` that is at least `n`.
constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

/// n / d rounded up.
constexpr int ceil_divide(int n, int d) { return (n + d - 1) / d; }

/// Square root by Newton's method, to the last bit or the one before it.
constexpr double square_root(double x) {
  if (x <= 0) return 0;
  double r = x > 1 ? x : 1;
  for (int i = 0; i < 200; ++i) {
    const double next = 0.5 * (r + x / r);
    if (next == r || (i > 0 && next > r)) break;
    r = next;
  }
  return r;
}

}  // namespace mad
