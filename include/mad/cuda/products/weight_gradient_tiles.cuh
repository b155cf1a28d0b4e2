// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How the kernel for gradients of weights by warpgroups (weight_gradients_warpgroup.cuh) cuts them into tiles and
/// shares of the rows.
#pragma once

#include <mad/cuda/device/tensor_map.hpp>
#include <mad/cuda/device/weight_gradient.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace mad::cuda::weight_gradient_warpgroup {

inline constexpr int panel = 64;    ///< columns that the copy engine brings at once
inline constexpr int lefts = 128;   ///< columns of a tile of the left factor
inline constexpr int rights = 128;  ///< and of the right one
inline constexpr int stage_rows = 64;
inline constexpr int piece = 128;  ///< 16 x 8 sums

/// Gradients as sums over rows of left x right; the left factor is dy, or else x.
struct Operands {
  CUtensorMap left;
  CUtensorMap right;
};
/// The tiles of one gradient: neighbours along the right factor, one behind the other along the left.
struct Task {
  int operands;
  int left_end;   ///< columns of the left factor
  int right_end;  ///< and of the right one
  int tiles;
  int tiles_right;
  int shares;  ///< of the rows, which take turns at steps of `stage_rows`
  int first_block;
  int first_unit;  ///< of what is added up
  bool left_is_x;
  Index most_shares;  ///< for which there is room
  float* partial;     ///< (shares, tiles, results)
  float* d_weight;
  float* d_bias;
  int in;
};
/// Sums of a tile, and of the columns of its left factor.
inline constexpr int results = lefts * rights + lefts;
inline constexpr int units = results / piece;
struct Tasks {
  Operands operands[most_weight_gradients];
  Task task[most_weight_gradients];
  int count;
  int steps;   ///< of all rows
  int blocks;  ///< of all tasks
  int units;

  std::span<Task> all() { return std::span(task).first(static_cast<std::size_t>(count)); }
};

/// The last task whose `first` is not after `index`.
__device__ inline const Task& find(const Tasks& tasks, int Task::*first, int index) {
  int t = 0;
  while (t + 1 < tasks.count && tasks.task[t + 1].*first <= index) ++t;
  return tasks.task[t];
}

/// What a tile has of a gradient.
struct Place {
  int first_left;
  int first_right;
  int lefts;
  int rights;
  bool has_bias;

  __device__ Place(const Task& task, int tile)
      : first_left(tile / task.tiles_right * weight_gradient_warpgroup::lefts),
        first_right(tile % task.tiles_right * weight_gradient_warpgroup::rights),
        lefts(min(weight_gradient_warpgroup::lefts, task.left_end - first_left)),
        rights(min(weight_gradient_warpgroup::rights, task.right_end - first_right)),
        has_bias(first_right == 0 && task.d_bias != nullptr) {}
};

/// The factor with more columns is the left one; but sums of dy's columns are formed of the left one.
inline bool has_x_left(const WeightGradient& g) { return g.in > g.out && g.d_bias == nullptr; }

/// The tiles of a gradient, appended to the tasks.
inline void append_tiles(Tasks& tasks, const WeightGradient& g, int operands) {
  Task& task = tasks.task[tasks.count++];
  const bool left_is_x = has_x_left(g);
  task.operands = operands;
  task.left_end = left_is_x ? g.in : g.out;
  task.right_end = left_is_x ? g.out : g.in;
  task.tiles_right = (task.right_end + rights - 1) / rights;
  task.tiles = (task.left_end + lefts - 1) / lefts * task.tiles_right;
  task.left_is_x = left_is_x;
  task.d_weight = g.d_weight;
  task.d_bias = g.d_bias;
  task.in = g.in;
}

/// All tiles and their shares, without memory. \p least_steps of rows are worth a share.
inline Tasks make_tasks(std::span<const WeightGradient> gradients, Index rows, int multiprocessors, int least_steps) {
  Tasks tasks{};
  tasks.steps = static_cast<int>((rows + stage_rows - 1) / stage_rows);
  for (std::size_t i = 0; i < gradients.size(); ++i) append_tiles(tasks, gradients[i], static_cast<int>(i));
  // What a tile reads of a row, in panels.
  const auto cost = [](const Task& task) {
    return Index{(std::min(lefts, task.left_end) + panel - 1) / panel +
                 (std::min(rights, task.right_end) + panel - 1) / panel};
  };
  Index all_tiles = 0;
  Index all_cost = 0;
  for (const Task& task : tasks.all()) {
    all_tiles += task.tiles;
    all_cost += task.tiles * cost(task);
  }
  // All blocks run at once, unless that would leave many multiprocessors without a block.
  const Index blocks = 4 * all_tiles > multiprocessors ? Index{4} * multiprocessors : multiprocessors;
  for (Task& task : tasks.all()) {
    // No smaller number of rows wants more shares, so that a rehearsal with the most rows is enough.
    task.most_shares = std::clamp<Index>(blocks * cost(task) / all_cost, 1, std::max(1, tasks.steps / least_steps));
    task.shares = static_cast<int>(std::min<Index>(task.most_shares, std::max(1, tasks.steps)));
    task.first_block = tasks.blocks;
    task.first_unit = tasks.units;
    tasks.blocks += task.tiles * task.shares;
    tasks.units += task.tiles * units;
  }
  return tasks;
}

inline void describe_operands(Tasks& tasks, std::span<const WeightGradient> gradients, Index rows) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const WeightGradient& g = gradients[i];
    const CUtensorMap dy = tensor_map(g.dy, rows, g.out, static_cast<Index>(g.dy_stride), stage_rows, panel);
    const CUtensorMap x = tensor_map(g.x, rows, g.in, static_cast<Index>(g.x_stride), stage_rows, panel);
    tasks.operands[i] = has_x_left(g) ? Operands{x, dy} : Operands{dy, x};
  }
}

}  // namespace mad::cuda::weight_gradient_warpgroup
