// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How the gradient of attention in narrow heads is cut, and in which order a head's warps come to its queries.
#pragma once

namespace mad::cuda::attention_narrow {

/// How the backward pass is cut. Rows are those of all heads of a block.
template <int Width>
struct Backward {
  static constexpr int warps = Width == 8 ? 8 : 4;
  static constexpr int threads = 32 * warps;
  static constexpr int tiles = 32 / Width;  ///< tiles of 16 keys of a block
  static constexpr int keys = 16 * tiles;   ///< of a block, which a warp has in registers; it takes two in turn
  static constexpr int step = keys / 2;     ///< queries between two barriers
  static constexpr int capacity = 2 * warps * keys;          ///< rows of keys, and of queries, if there is the memory
  static constexpr int loaded = capacity / threads;          ///< of them, those that a thread loads
  static constexpr int blocks_at_once = Width == 8 ? 2 : 3;  ///< on a multiprocessor
};

/// The way of a block of keys past a load of queries, of which some pass at each step.
struct Way {
  int waits;  ///< steps before it begins
  int first;  ///< place of the first step
  int by;     ///< from one step to the next
  int steps;
  int round;  ///< after this place comes 0
};

/// The course of a head's warps past a load of queries. A warp has two blocks of keys in turn, its place-th from the
/// front and from the back, so that all have as much to do; no two are at the same queries at a time. A step is half as
/// many queries as a block has keys.
///
/// Where the queries are at the keys' positions, a warp goes up through those that see its first block, from the
/// block's own on, and then down through those that see its second, so that it comes to the block's own in the last
/// step. Going the same way, warps stay as far apart as their blocks. Those that go up and those that go down are at
/// places of different parity, as blocks begin at even ones and the number of steps is even.
///
/// A warp pauses for two steps between its blocks, in which it puts away the first's sums while the others go on.
///
/// Elsewhere all queries may see all keys: the warps go round, one behind the other, once for each block.
template <int Width>
class Course {
  using B = Backward<Width>;

public:
  __device__ Course(int place, int warps, int rows, bool at_keys, int window)
      : place_(place), warps_(warps), count_((rows + B::step - 1) / B::step), window_(window), at_keys_(at_keys) {
    steps_ = 0;
    if (at_keys)
      for (int p = 0; p < warps; ++p) steps_ = max(steps_, (length(p) + length(2 * warps - 1 - p) + 1) / 2 * 2);
    if (at_keys && warps > 1) steps_ += 2;
  }
  /// The number of the first or second block.
  __device__ int block(int which) const { return which == 0 ? place_ : 2 * warps_ - 1 - place_; }
  __device__ Way way(int which) const {
    const int round = max(count_, warps_);
    if (!at_keys_) return {0, place_, 1, round, round};
    const int own = length(block(which));
    if (which == 0) return {0, 2 * place_, 1, own, count_ + 1};
    return {steps_ - length(place_) - own, 2 * block(1) + own - 1, -1, own, count_ + 1};
  }

private:
  /// Of the queries at the keys' positions, places that see a block.
  __device__ int length(int block) const {
    return max(0, min(count_, (block * B::keys + B::keys - 1 + window_) / B::step + 1) - 2 * block);
  }

  int place_, warps_, count_, window_, steps_;
  bool at_keys_;
};

/// All warps of a block wait for each other, each at its place of the code; `__syncthreads` asks for the same place.
__device__ inline void meet() { asm volatile("bar.sync 0;" : : : "memory"); }

}  // namespace mad::cuda::attention_narrow
