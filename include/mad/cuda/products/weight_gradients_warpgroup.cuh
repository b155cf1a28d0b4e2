// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of all weights of a layer at once (weight_gradients.cuh), for code for `90a`: products by four warps
/// together, of rows that the copy engine brings. A block has 256 x 128 sums in registers, so that a row is read from
/// the second-level cache by fewer blocks, or 128 x 128, for which its two warpgroups share the rows.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/tensor_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/instructions/warpgroup.cuh>
#include <mad/cuda/products/weight_gradient_shares.cuh>
#include <mad/cuda/products/weight_gradient_tiles.cuh>

#include <cstddef>
#include <cstdint>
#include <span>

namespace mad::cuda {

namespace weight_gradient_warpgroup {

inline constexpr int panel_bytes = stage_rows * panel * 2;
/// Of a stage of a tile with so many columns of the left factor.
constexpr int stage_bytes(int tile_lefts) { return (tile_lefts + rights) / panel * panel_bytes; }
inline constexpr int ring_bytes = 3 * stage_bytes(wide);
/// As many as there is room for: what a block has on its way decides how much it gets.
constexpr int stages(int tile_lefts) { return ring_bytes / stage_bytes(tile_lefts); }
inline constexpr int most_stages = stages(narrow);
inline constexpr int computing_threads = 256;
inline constexpr int threads = computing_threads + 32;

/// What lies in shared memory, in bytes from a multiple of 1024.
struct Memory {
  static constexpr int barriers = ring_bytes;
  static constexpr int ones = barriers + 2 * most_stages * TransferBarrier::size;
  static constexpr int columns = ones + 256;
  static constexpr int bytes = columns + narrow * 4 + 1024;
  static_assert(ones % 16 == 0);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The ring of stages of a block whose tile has so many columns of the left factor.
template <int TileLefts>
struct Ring {
  static constexpr int count = stages(TileLefts);
  static constexpr int bytes = stage_bytes(TileLefts);
  std::uint32_t shared;

  __device__ TransferBarrier full(int stage) const {
    return TransferBarrier(shared + Memory::barriers + stage * TransferBarrier::size);
  }
  __device__ TransferBarrier empty(int stage) const { return full(count + stage); }
  /// Panel \p p of a stage: those of the left factor, then those of the right one.
  __device__ std::uint32_t at(int stage, int p) const { return shared + stage * bytes + p * panel_bytes; }
  /// One thread does this, before a barrier of the block.
  __device__ void start() const {
    for (int s = 0; s < count; ++s) {
      full(s).start(1);
      empty(s).start(2);
    }
    show_barriers();
  }

  /// Where a thread is in it.
  struct Turn {
    int stage = 0;
    int parity = 0;
    __device__ void advance() {
      stage = stage == count - 1 ? 0 : stage + 1;
      parity ^= stage == 0 ? 1 : 0;
    }
  };
};

/// One thread: has all rows of a share copied, stage after stage.
template <int TileLefts>
__device__ void copy_rows(const Ring<TileLefts>& ring, const Operands& from, const Place& place, int share, int shares,
                          int steps) {
  const int lefts = (place.lefts + panel - 1) / panel;
  const int rights = (place.rights + panel - 1) / panel;
  typename Ring<TileLefts>::Turn turn;
  for (int step = share; step < steps; step += shares) {
    ring.empty(turn.stage).wait(turn.parity ^ 1);
    const TransferBarrier full = ring.full(turn.stage);
    full.arrive_and_expect((lefts + rights) * panel_bytes);
    const int row = step * stage_rows;
    for (int p = 0; p < lefts; ++p)
      copy_box(ring.at(turn.stage, p), from.left, row, place.first_left + p * panel, full);
    for (int p = 0; p < rights; ++p)
      copy_box(ring.at(turn.stage, TileLefts / panel + p), from.right, row, place.first_right + p * panel, full);
    turn.advance();
  }
}

/// A warpgroup's sums: of two panels of the left factor.
struct WarpgroupSums {
  tensor::Sums product[2][16];
  tensor::Sums column[2];

  /// In a wide tile a warpgroup has two panels of its own, and all rows; else both have the same panels and half of the
  /// rows.
  template <bool HasBias, int TileLefts>
  __device__ void add_rows(const Ring<TileLefts>& ring, int steps) {
    constexpr bool is_wide = TileLefts == wide;
    const int own = static_cast<int>(threadIdx.x) / 128;
    const int first = is_wide ? 2 * own : 0;
    const auto ones = tensor::SharedFactor::of_matrices(ring.shared + Memory::ones, 128, 128);
    typename Ring<TileLefts>::Turn turn;
    int before = 0;
    for (int step = 0; step < steps; ++step) {
      ring.full(turn.stage).wait(turn.parity);
      const auto left = tensor::SharedFactor::at(ring.at(turn.stage, first), 128, panel_bytes);
      const auto right = tensor::SharedFactor::at(ring.at(turn.stage, TileLefts / panel), 128, panel_bytes);
      tensor::begin_products();
#pragma unroll
      for (int k = 0; k < stage_rows / 16; k += is_wide ? 1 : 2) {
        const int bytes = (k + (is_wide ? 0 : own)) * 16 * 128;
#pragma unroll
        for (int p = 0; p < 2; ++p) {
          tensor::multiply_add_rows_async(product[p], left.behind(p * panel_bytes + bytes), right.behind(bytes));
          if constexpr (HasBias) tensor::add_columns_async(column[p], left.behind(p * panel_bytes + bytes), ones);
        }
      }
      tensor::commit_products();
      tensor::wait_for_products<1>();  // those of the stage before have been read
      if (step > 0 && threadIdx.x % 128 == 0) ring.empty(before).arrive();
      before = turn.stage;
      turn.advance();
    }
    tensor::wait_for_products();
#pragma unroll
    for (int p = 0; p < 2; ++p) tensor::pin(product[p]);
    tensor::pin(column);
  }
};

/// All computing threads.
__device__ inline void wait_for_both() { asm volatile("bar.sync 1, %0;" : : "n"(computing_threads) : "memory"); }

/// Stores what a tile has, in pieces as the lanes hold them, which writes whole lines.
template <int TileLefts>
__device__ void store_sums(WarpgroupSums& sums, float* shared, const Place& place, float* partial) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp = thread / 32 % 4;
  const int own = thread / 128;
  const auto store_piece = [&](int p, int n, const float(&value)[4]) {
    const int left = p * 4 + warp;
    if (left * 16 < place.lefts && n * 8 < place.rights)
      store(partial + ((left * (rights / 8) + n) * 32 + lane) * 4, value);
  };
  const auto store_columns = [&](int p, float first, float second) {
    float* to = partial + TileLefts * rights + (p * 4 + warp) * 16 + lane / 4;
    if (!place.has_bias || lane % 4 != 0) return;
    to[0] = first;
    to[8] = second;
  };
  if constexpr (TileLefts == wide) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
#pragma unroll
      for (int n = 0; n < rights / 8; ++n) store_piece(2 * own + p, n, sums.product[p][n].value);
      store_columns(2 * own + p, sums.column[p].value[0], sums.column[p].value[2]);
    }
  } else {
    // Each finishes a panel.
    wait_for_both();  // nobody reads the stages any more
    float4* handed = reinterpret_cast<float4*>(shared) + thread;
    const auto exchange = [&](tensor::Sums(&given)[17], tensor::Sums(&kept)[17]) {
#pragma unroll
      for (int n = 0; n < 17; ++n) {
        const float(&v)[4] = given[n].value;
        handed[n * computing_threads] = {v[0], v[1], v[2], v[3]};
      }
      wait_for_both();
      const float4* others = handed + (own == 0 ? 128 : -128);
#pragma unroll
      for (int n = 0; n < 17; ++n) {
        const float4 other = others[n * computing_threads];
        kept[n].value[0] += other.x;
        kept[n].value[1] += other.y;
        kept[n].value[2] += other.z;
        kept[n].value[3] += other.w;
      }
    };
    tensor::Sums all[2][17];
#pragma unroll
    for (int p = 0; p < 2; ++p) {
#pragma unroll
      for (int n = 0; n < 16; ++n) all[p][n] = sums.product[p][n];
      all[p][16] = sums.column[p];
    }
    const auto finish = [&](tensor::Sums(&given)[17], tensor::Sums(&kept)[17]) {
      exchange(given, kept);
#pragma unroll
      for (int n = 0; n < 16; ++n) store_piece(own, n, kept[n].value);
      store_columns(own, kept[16].value[0], kept[16].value[2]);
    };
    if (own == 0)
      finish(all[1], all[0]);
    else
      finish(all[0], all[1]);
  }
}

__device__ inline void add_share(const Tasks& tasks, std::byte* memory) {
  const int index = static_cast<int>(blockIdx.x);
  const Task& task = find(tasks, &Task::first_block, index);
  const int tile = (index - task.first_block) / task.shares;
  const int share = (index - task.first_block) % task.shares;
  const Place place(task, tile);
  memory += (1024 - __cvta_generic_to_shared(memory) % 1024) % 1024;
  if (threadIdx.x < 64) reinterpret_cast<std::uint32_t*>(memory + Memory::ones)[threadIdx.x] = 0x3f803f80;
  show_to_copies();  // products read shared memory as copies do
  float* partial = task.partial + (static_cast<std::size_t>(share) * task.tiles + tile) * task.results();
  const auto add = [&]<int TileLefts>() {
    const Ring<TileLefts> ring{static_cast<std::uint32_t>(__cvta_generic_to_shared(memory))};
    if (threadIdx.x == computing_threads) ring.start();
    __syncthreads();
    if (threadIdx.x == computing_threads)
      copy_rows(ring, tasks.operands[task.operands], place, share, task.shares, tasks.steps);
    if (threadIdx.x >= computing_threads) return;
    WarpgroupSums sums{};
    const int steps = (tasks.steps - share + task.shares - 1) / task.shares;
    if (place.has_bias)
      sums.add_rows<true>(ring, steps);
    else
      sums.add_rows<false>(ring, steps);
    store_sums<TileLefts>(sums, reinterpret_cast<float*>(memory), place, partial);
  };
  if (task.tile_lefts == wide)
    add.operator()<wide>();
  else
    add.operator()<narrow>();
}

#endif

/// A share of the rows for a tile of a task's results. Grid: the tasks' blocks. Only code for `90a` has it, and says so
/// by its number of threads.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <int Threads>
__global__ void __launch_bounds__(Threads, 1) add_shares_of_rows(const __grid_constant__ Tasks tasks) {
  extern __shared__ float4 dynamic_memory[];
  add_share(tasks, reinterpret_cast<std::byte*>(dynamic_memory));
}
#else
template <int Threads>
__global__ void __launch_bounds__(32, 1) add_shares_of_rows(const __grid_constant__ Tasks) {}
#endif

inline constexpr int finish_warps = 8;

/// Adds up the shares of 128 results: a piece of a weight, or a part of a bias. Grid: the tasks' units.
template <int Warps>
__global__ void __launch_bounds__(32 * Warps) add_up_shares(const __grid_constant__ Tasks tasks) {
  __shared__ alignas(16) float of_warp[Warps][piece];
  const Task& task = find(tasks, &Task::first_unit, static_cast<int>(blockIdx.x));
  const int tile = (static_cast<int>(blockIdx.x) - task.first_unit) / task.units();
  const int unit = (static_cast<int>(blockIdx.x) - task.first_unit) % task.units();
  const Place place(task, tile);
  const int pieces = task.tile_lefts * rights / piece;
  const bool is_bias = unit >= pieces;
  const int left = is_bias ? (unit - pieces) * piece : unit / (rights / 8) * 16;
  const int right = is_bias ? 0 : unit % (rights / 8) * 8;
  if (left >= place.lefts || right >= place.rights || (is_bias && !place.has_bias)) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::size_t stride = static_cast<std::size_t>(task.tiles) * task.results();
  const float* from = task.partial + static_cast<std::size_t>(tile) * task.results() + unit * piece + lane * 4;
  float sum[4]{};
  add_shares_in_turn<Warps>(from, stride, static_cast<unsigned>(task.shares), sum);
  store(&of_warp[warp][lane * 4], sum);
  __syncthreads();
  if (threadIdx.x >= piece) return;
  // Neighbouring threads write neighbours: a thread takes number (r, c) of a piece, or column t of dy.
  const int t = static_cast<int>(threadIdx.x);
  const int r = task.left_is_x ? t % 16 : t / 8;
  const int c = task.left_is_x ? t / 16 : t % 8;
  const int at = is_bias ? t : (r % 8 * 4 + c / 2) * 4 + r / 8 * 2 + c % 2;
  const int l = place.first_left + left + (is_bias ? t : r);
  if (l >= place.first_left + place.lefts) return;
  float total = 0;
#pragma unroll
  for (int w = 0; w < Warps; ++w) total += of_warp[w][at];
  const int other = place.first_right + right + c;
  float* to = is_bias ? task.d_bias + l
                      : task.d_weight + (task.left_is_x ? static_cast<std::size_t>(other) * task.in + l
                                                        : static_cast<std::size_t>(l) * task.in + other);
  *to += total;
}

/// True where the device has this code.
inline bool is_there() {
  const auto* kernel = reinterpret_cast<const void*>(add_shares_of_rows<threads>);
  return Queue::facts_of(kernel, "the gradients of weights").maxThreadsPerBlock >= threads;
}

inline void add(Queue& queue, std::span<const WeightGradient> gradients, Index rows) {
  Tasks tasks = make_tasks(gradients, rows, queue.multiprocessors(), most_stages);
  Index partial = 0;
  for (const Task& task : tasks.all()) partial += task.most_shares * task.tiles * task.results();
  float* next = queue.take<float>(partial);
  for (Task& task : tasks.all()) {
    task.partial = next;
    next += task.most_shares * task.tiles * task.results();
  }
  if (queue.rehearsing() || rows == 0) return;
  describe_operands(tasks, gradients, rows);
  queue.launch("the gradients of weights", add_shares_of_rows<threads>, dim3(static_cast<unsigned>(tasks.blocks)),
               dim3(threads), Memory::bytes, tasks);
  queue.launch("the gradients of weights", add_up_shares<finish_warps>, dim3(static_cast<unsigned>(tasks.units)),
               dim3(32 * finish_warps), 0, tasks);
}

}  // namespace weight_gradient_warpgroup
}  // namespace mad::cuda
