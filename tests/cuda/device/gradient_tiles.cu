// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "gradient_tiles.hpp"

#include <mad/cuda/products/weight_gradient_tiles.cuh>

#include <algorithm>
#include <cstddef>

namespace mad::testing {

GradientTiles cut_gradients(const std::vector<GradientMap>& maps, Index rows, int multiprocessors) {
  namespace w = cuda::weight_gradient_warpgroup;
  float anywhere = 0;
  std::vector<cuda::WeightGradient> gradients;
  for (const GradientMap& m : maps)
    gradients.push_back({.out = m.out, .in = m.in, .d_weight = &anywhere, .d_bias = m.bias ? &anywhere : nullptr});
  w::Tasks tasks = w::make_tasks(gradients, rows, multiprocessors, 3);
  const int out = maps[0].out;
  const int in = maps[0].in;
  GradientTiles found{.times = std::vector<int>(static_cast<std::size_t>(out * in + out))};
  int blocks = 0;
  int units = 0;
  for (const w::Task& task : tasks.all()) {
    found.follow = found.follow && task.first_block == blocks && task.first_unit == units;
    blocks += task.tiles * task.shares;
    units += task.tiles * w::units;
    found.have_room = found.have_room && task.shares <= task.most_shares;
    found.rows_are_shared = found.rows_are_shared && task.shares >= 1 && task.shares <= std::max(tasks.steps, 1);
    if (task.operands != 0) continue;
    for (int tile = 0; tile < task.tiles; ++tile) {
      const int left = tile / task.tiles_right * w::lefts;
      const int right = tile % task.tiles_right * w::rights;
      for (int l = left; l < std::min(left + w::lefts, task.left_end); ++l) {
        for (int r = right; r < std::min(right + w::rights, task.right_end); ++r)
          ++found.times[static_cast<std::size_t>(task.left_is_x ? r * in + l : l * in + r)];
        if (right == 0 && task.d_bias != nullptr) ++found.times[static_cast<std::size_t>(out * in + l)];
      }
    }
  }
  found.follow = found.follow && tasks.blocks == blocks && tasks.units == units;
  return found;
}

}  // namespace mad::testing
