// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mad/core/shape.hpp>

#include <vector>

namespace mad::testing {

struct GradientMap {
  int out;
  int in;
  bool bias = false;
};

/// How the kernel by warpgroups cuts gradients: what is wrong with it.
struct GradientTiles {
  std::vector<int> times;       ///< how often each number of the first gradient, and of its bias, is in a tile
  bool rows_are_shared = true;  ///< the shares of every tile have all rows, and none is empty
  bool follow = true;           ///< blocks and units of tasks lie behind each other, and are all there are
  bool have_room = true;        ///< no tile has more shares than there is memory for
};
GradientTiles cut_gradients(const std::vector<GradientMap>& maps, Index rows, int multiprocessors);

}  // namespace mad::testing
