// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The sizes that are known only at run time.
#pragma once

#include <cstddef>

namespace mad {

/// Signed size and index type of the whole library (Eigen's too).
using Index = std::ptrdiff_t;

/// Run-time sizes of one call: `batch` sequences of `length` tokens; filters live on a grid of `max_length` positions.
struct Shape {
  Index batch = 1;
  Index length = 1;
  Index max_length = 1;

  constexpr Index tokens() const { return batch * length; }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;
};

}  // namespace mad
