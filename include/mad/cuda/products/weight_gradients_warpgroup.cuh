// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of all weights of a layer at once (weight_gradients.cuh), for code for `90a`: products by four warps
/// together, of rows that the copy engine brings. A block has 128 x 128 sums in registers. It is small, so that a
/// multiprocessor has room for blocks of the first stream beside it: what these gradients wait for, memory, is not what
/// those wait for.
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
inline constexpr int stage_bytes = (lefts + rights) / panel * panel_bytes;
inline constexpr int stages = 3;
inline constexpr int computing_threads = 128;
inline constexpr int threads = computing_threads + 32;

/// What lies in shared memory, in bytes from a multiple of 1024.
struct Memory {
  static constexpr int barriers = stages * stage_bytes;
  static constexpr int ones = (barriers + 2 * stages * TransferBarrier::size + 15) / 16 * 16;
  static constexpr int bytes = ones + 256 + 1024;
  static_assert(ones % 16 == 0);
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The ring of stages of a block.
struct Ring {
  std::uint32_t shared;

  __device__ TransferBarrier full(int stage) const {
    return TransferBarrier(shared + Memory::barriers + stage * TransferBarrier::size);
  }
  __device__ TransferBarrier empty(int stage) const { return full(stages + stage); }
  /// Panel \p p of a stage: those of the left factor, then those of the right one.
  __device__ std::uint32_t at(int stage, int p) const { return shared + stage * stage_bytes + p * panel_bytes; }
  /// One thread does this, before a barrier of the block.
  __device__ void start() const {
    for (int s = 0; s < 2 * stages; ++s) full(s).start(1);
    show_barriers();
  }

  /// Where a thread is in it.
  struct Turn {
    int stage = 0;
    int parity = 0;
    __device__ void advance() {
      stage = stage == stages - 1 ? 0 : stage + 1;
      parity ^= stage == 0 ? 1 : 0;
    }
  };
};

/// One thread: has all rows of a share copied, stage after stage.
__device__ inline void copy_rows(const Ring& ring, const Operands& from, const Place& place, int share, int shares,
                                 int steps) {
  const int left_panels = (place.lefts + panel - 1) / panel;
  const int right_panels = (place.rights + panel - 1) / panel;
  Ring::Turn turn;
  for (int step = share; step < steps; step += shares) {
    ring.empty(turn.stage).wait(turn.parity ^ 1);
    const TransferBarrier full = ring.full(turn.stage);
    full.arrive_and_expect((left_panels + right_panels) * panel_bytes);
    const int row = step * stage_rows;
    for (int p = 0; p < left_panels; ++p)
      copy_box(ring.at(turn.stage, p), from.left, row, place.first_left + p * panel, full);
    for (int p = 0; p < right_panels; ++p)
      copy_box(ring.at(turn.stage, lefts / panel + p), from.right, row, place.first_right + p * panel, full);
    turn.advance();
  }
}

/// The sums of a tile.
struct TileSums {
  tensor::Sums product[lefts / panel][rights / 8];
  tensor::Sums column[lefts / panel];

  template <bool HasBias>
  __device__ void add_rows(const Ring& ring, int steps) {
    const auto ones = tensor::SharedFactor::of_matrices(ring.shared + Memory::ones, 128, 128);
    Ring::Turn turn;
    int before = 0;
    for (int step = 0; step < steps; ++step) {
      ring.full(turn.stage).wait(turn.parity);
      const auto left = tensor::SharedFactor::at(ring.at(turn.stage, 0), 128, panel_bytes);
      const auto right = tensor::SharedFactor::at(ring.at(turn.stage, lefts / panel), 128, panel_bytes);
      tensor::begin_products();
#pragma unroll
      for (int k = 0; k < stage_rows / 16; ++k) {
        const int bytes = k * 16 * 128;
#pragma unroll
        for (int p = 0; p < lefts / panel; ++p) {
          tensor::multiply_add_rows_async(product[p], left.behind(p * panel_bytes + bytes), right.behind(bytes));
          if constexpr (HasBias) tensor::add_columns_async(column[p], left.behind(p * panel_bytes + bytes), ones);
        }
      }
      tensor::commit_products();
      tensor::wait_for_products<1>();  // those of the stage before have been read
      if (step > 0 && threadIdx.x == 0) ring.empty(before).arrive();
      before = turn.stage;
      turn.advance();
    }
    tensor::wait_for_products();
#pragma unroll
    for (int p = 0; p < lefts / panel; ++p) tensor::pin(product[p]);
    tensor::pin(column);
  }

  /// In pieces as the lanes hold them, which writes whole lines.
  __device__ void store(const Place& place, float* partial) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
    for (int p = 0; p < lefts / panel; ++p) {
      const int left = p * 4 + warp;
#pragma unroll
      for (int n = 0; n < rights / 8; ++n)
        if (left * 16 < place.lefts && n * 8 < place.rights)
          cuda::store(partial + ((left * (rights / 8) + n) * 32 + lane) * 4, product[p][n].value);
      float* to = partial + lefts * rights + left * 16 + lane / 4;
      if (!place.has_bias || lane % 4 != 0) continue;
      to[0] = column[p].value[0];
      to[8] = column[p].value[2];
    }
  }
};

__device__ inline void add_share(const Tasks& tasks, std::byte* memory) {
  const int index = static_cast<int>(blockIdx.x);
  const Task& task = find(tasks, &Task::first_block, index);
  const int tile = (index - task.first_block) / task.shares;
  const int share = (index - task.first_block) % task.shares;
  const Place place(task, tile);
  memory += (1024 - __cvta_generic_to_shared(memory) % 1024) % 1024;
  if (threadIdx.x < 64) reinterpret_cast<std::uint32_t*>(memory + Memory::ones)[threadIdx.x] = 0x3f803f80;
  show_to_copies();  // products read shared memory as copies do
  const Ring ring{static_cast<std::uint32_t>(__cvta_generic_to_shared(memory))};
  if (threadIdx.x == computing_threads) ring.start();
  __syncthreads();
  if (threadIdx.x == computing_threads)
    copy_rows(ring, tasks.operands[task.operands], place, share, task.shares, tasks.steps);
  if (threadIdx.x >= computing_threads) return;
  TileSums sums{};
  const int steps = (tasks.steps - share + task.shares - 1) / task.shares;
  if (place.has_bias)
    sums.add_rows<true>(ring, steps);
  else
    sums.add_rows<false>(ring, steps);
  sums.store(place, task.partial + (static_cast<std::size_t>(share) * task.tiles + tile) * results);
}

#endif

/// A share of the rows for a tile of a task's results. Grid: the tasks' blocks. Only code for `90a` has it, and says so
/// by its number of threads.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <int Threads>
__global__ void __launch_bounds__(Threads, 2) add_shares_of_rows(const __grid_constant__ Tasks tasks) {
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
  const int tile = (static_cast<int>(blockIdx.x) - task.first_unit) / units;
  const int unit = (static_cast<int>(blockIdx.x) - task.first_unit) % units;
  const Place place(task, tile);
  constexpr int pieces = lefts * rights / piece;
  const bool is_bias = unit >= pieces;
  const int left = is_bias ? (unit - pieces) * piece : unit / (rights / 8) * 16;
  const int right = is_bias ? 0 : unit % (rights / 8) * 8;
  if (left >= place.lefts || right >= place.rights || (is_bias && !place.has_bias)) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::size_t stride = static_cast<std::size_t>(task.tiles) * results;
  const float* from = task.partial + static_cast<std::size_t>(tile) * results + unit * piece + lane * 4;
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
  Tasks tasks = make_tasks(gradients, rows, queue.multiprocessors(), stages);
  Index partial = 0;
  for (const Task& task : tasks.all()) partial += task.most_shares * task.tiles * results;
  float* next = queue.take<float>(partial);
  for (Task& task : tasks.all()) {
    task.partial = next;
    next += task.most_shares * task.tiles * results;
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
