// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of all weights of a layer at once, of bfloat16 values, on the tensor cores.
///
/// Such a product has few results and a sum over all rows of a batch. One kernel cuts the results of all products into
/// tiles and the rows into shares, as many as keep all multiprocessors busy once; a second one adds up the shares, in
/// order. What bounds the first is the traffic from the second-level cache, so that tiles are as large as registers
/// allow, and the traffic of partial sums, so that the warps of a block share the rows of its tile and add up what they
/// have before it leaves the multiprocessor.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/device/weight_gradient.hpp>
#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/products/weight_gradient_shares.cuh>
#include <mad/cuda/products/weight_gradients_warpgroup.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mad::cuda {

/// True where the kernel can take it: rows of dy and x begin at multiples of 16 bytes and consist of such pieces.
inline bool takes(const WeightGradient& g) {
  const auto aligned = [](const BFloat16* rows, std::size_t stride) {
    return reinterpret_cast<std::uintptr_t>(rows) % 16 == 0 && stride % 8 == 0;
  };
  return g.out > 0 && g.in > 0 && g.out % 8 == 0 && g.in % 8 == 0 && aligned(g.dy, g.dy_stride) &&
         aligned(g.x, g.x_stride);
}

namespace weight_gradient_detail {

/// How a block of `Groups` WarpsOut WarpsIn warps computes a tile of Out x In sums: groups of warps share the rows of a
/// stage, 16 at a time; the warps of a group share the tile.
template <int Out, int In, int WarpsOut, int WarpsIn, int Groups, int Rows, int Stages, int Blocks>
struct Shape {
  static constexpr int out = Out;
  static constexpr int in = In;
  static constexpr int warps_out = WarpsOut;
  static constexpr int warps_in = WarpsIn;
  static constexpr int group_warps = WarpsOut * WarpsIn;
  static constexpr int groups = Groups;
  static constexpr int threads = 32 * Groups * group_warps;
  static constexpr int rows = Rows;      ///< that arrive together
  static constexpr int stages = Stages;  ///< of rows, in shared memory
  static constexpr int blocks = Blocks;  ///< per multiprocessor
  static constexpr int warp_out = Out / WarpsOut;
  static constexpr int warp_in = In / WarpsIn;
  static constexpr int lefts = warp_out / 16;
  static constexpr int rights = warp_in / 8;
  static constexpr int pieces = Out / 16 * (In / 8);  ///< of 16 x 8 sums, in a tile
  static constexpr int results = Out * In + Out;      ///< of a block: its pieces, and the sums of dy's columns

  static_assert(Rows % (16 * Groups) == 0 && lefts % WarpsIn == 0 && rights % 2 == 0 && lefts % Groups == 0);
  static_assert((group_warps & (group_warps - 1)) == 0 && Groups <= 2 && Out % 128 == 0 && Stages >= 2);
};

/// 64 x 64 sums per warp: a warp reads less shared memory for its products than with any smaller share. Two small
/// blocks per multiprocessor leave other kernels more room than a large one, and want little shared memory: 10% less
/// time for attention's step than one block of two groups.
using Default = Shape<128, 128, 2, 2, 1, 32, 4, 2>;

template <class S>
struct Memory {
  struct Stage {  // rows are padded so that eight of them lie in different banks
    BFloat16 dy[S::rows][S::out + 8];
    BFloat16 x[S::rows][S::in + 8];
  };
  union {
    Stage stage[S::stages];
    float handed[2][S::pieces / 2][32][4];  // sums, from group to group
  };
  float columns[S::groups][S::out];  // sums of dy's columns
};

struct Task {
  WeightGradient of;
  unsigned tiles;     ///< in rows of `tiles_in`
  unsigned tiles_in;  ///< along the columns of the weight
  unsigned shares;    ///< of the rows
  unsigned rows;      ///< of a share
  unsigned first_tile;
  unsigned first_block;
  float* partial;  ///< (shares, tiles, results of a block)
};
struct Tasks {
  Task task[most_weight_gradients];
  unsigned count;
  unsigned rows;
};

/// The last task whose `first` is not after `index`.
__device__ inline const Task& find(const Tasks& tasks, unsigned Task::*first, unsigned index) {
  unsigned t = 0;
  while (t + 1 < tasks.count && tasks.task[t + 1].*first <= index) ++t;
  return tasks.task[t];
}

/// What a tile has of a weight: its place, and how much of it exists.
template <class S>
struct Place {
  int first_out;
  int first_in;
  int outs;
  int ins;

  __device__ Place(const Task& task, unsigned tile)
      : first_out(static_cast<int>(tile / task.tiles_in) * S::out),
        first_in(static_cast<int>(tile % task.tiles_in) * S::in),
        outs(min(S::out, task.of.out - first_out)),
        ins(min(S::in, task.of.in - first_in)) {}

  /// The tiles of the first column also add up the columns of dy.
  __device__ bool has_bias(const Task& task) const { return first_in == 0 && task.of.d_bias != nullptr; }
};

/// Rows [row, row + Rows) of a tile; zeros where there are none or no columns.
template <class S, int Stride>
__device__ void fetch(BFloat16 (&to)[S::rows][Stride], const BFloat16* from, std::size_t stride, int columns,
                      unsigned row, unsigned end) {
  constexpr int chunks = (Stride - 8) / 8;
  static_assert(S::rows * chunks % S::threads == 0);
#pragma unroll
  for (int k = 0; k < S::rows * chunks; k += S::threads) {
    const int i = k + static_cast<int>(threadIdx.x);
    const int r = i / chunks;
    const int c = i % chunks * 8;
    const bool here = row + static_cast<unsigned>(r) < end && c < columns;
    copy_or_clear_async(&to[r][c], from + (here ? (row + static_cast<unsigned>(r)) * stride + c : 0), here);
  }
}

/// The share of a tile's sums that a warp has.
template <class S>
struct WarpSums {
  tensor::Sums product[S::lefts][S::rights];
  tensor::Sums column[S::lefts / S::warps_in];  ///< of dy's columns, the same in all; warps side by side take turns

  /// Adds 16 rows. Without `counts_product` or `counts_columns` those sums are left alone.
  __device__ void add(const typename Memory<S>::Stage& stage, int row, int own_out, int own_in, bool counts_product,
                      bool counts_columns) {
    constexpr std::uint32_t two_ones = 0x3f803f80;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    tensor::Left<16> left[S::lefts];
#pragma unroll
    for (int m = 0; m < S::lefts; ++m)
      tensor::load_matrices<true>(&stage.dy[row + lane / 16 * 8 + lane % 8][own_out + m * 16 + lane / 8 % 2 * 8],
                                  left[m].part);
    if (counts_product) {
#pragma unroll
      for (int n = 0; n < S::rights; n += 2) {
        std::uint32_t right[4];
        tensor::load_matrices<true>(&stage.x[row + lane % 16][own_in + n * 8 + lane / 16 * 8], right);
#pragma unroll
        for (int m = 0; m < S::lefts; ++m) {
          tensor::multiply_add(product[m][n], left[m], tensor::Right<16>{{right[0], right[1]}});
          tensor::multiply_add(product[m][n + 1], left[m], tensor::Right<16>{{right[2], right[3]}});
        }
      }
    }
    if (counts_columns) {
#pragma unroll
      for (int j = 0; j < S::lefts / S::warps_in; ++j) {
        tensor::Left<16> mine = left[j * S::warps_in];
#pragma unroll
        for (int w = 1; w < S::warps_in; ++w)
          if (own_in == w * S::warp_in) mine = left[j * S::warps_in + w];
        tensor::multiply_add(column[j], mine, tensor::Right<16>{{two_ones, two_ones}});
      }
    }
  }

  /// Calls f(m, n, sums) for the rows that group `Group` finishes.
  template <int Group, class F>
  __device__ void for_group(const F& f) {
    constexpr int each = S::lefts / S::groups;
#pragma unroll
    for (int m = Group * each; m < (Group + 1) * each; ++m)
#pragma unroll
      for (int n = 0; n < S::rights; ++n) f(m, n, product[m][n]);
  }
};

/// A share of the rows for a tile of a task's results. Grid: the tasks' blocks.
template <class S>
__global__ void __launch_bounds__(S::threads, S::blocks) add_products(const __grid_constant__ Tasks tasks) {
  extern __shared__ float4 dynamic_memory[];
  Memory<S>& memory = *reinterpret_cast<Memory<S>*>(dynamic_memory);
  const Task& task = find(tasks, &Task::first_block, blockIdx.x);
  const unsigned tile = (blockIdx.x - task.first_block) / task.shares;
  const unsigned share = (blockIdx.x - task.first_block) % task.shares;
  const Place<S> place(task, tile);
  const unsigned begin = share * task.rows;
  const unsigned end = min(begin + task.rows, tasks.rows);
  const BFloat16* dy = task.of.dy + place.first_out;
  const BFloat16* x = task.of.x + place.first_in;

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = warp / S::group_warps;
  // Groups count their warps in opposite directions: where only some warps of each have work, because the map is
  // narrow, these have different schedulers.
  const int own = warp % S::group_warps ^ (group == 0 ? 0 : S::group_warps - 1);
  const int warp_column = own / S::warps_out;
  const int own_out = own % S::warps_out * S::warp_out;
  const int own_in = warp_column * S::warp_in;
  const bool counts_columns = own_out < place.outs && place.has_bias(task);
  const bool counts_product = own_out < place.outs && own_in < place.ins;

  const unsigned steps = (end - begin + S::rows - 1) / S::rows;
  const auto fetch_step = [&](unsigned step, int stage) {
    if (step < steps) {
      const unsigned row = begin + step * S::rows;
      fetch<S>(memory.stage[stage].dy, dy, task.of.dy_stride, place.outs, row, end);
      fetch<S>(memory.stage[stage].x, x, task.of.x_stride, place.ins, row, end);
    }
    commit_copies();
  };
  WarpSums<S> sums;
#pragma unroll
  for (int s = 0; s < S::stages - 1; ++s) fetch_step(static_cast<unsigned>(s), s);
  int stage = 0;
  int free = S::stages - 1;
  for (unsigned step = 0; step < steps; ++step) {
    wait_for_copies<S::stages - 2>();
    __syncthreads();  // this stage is here, and nobody reads the one before
    fetch_step(step + S::stages - 1, free);
    if (counts_product || counts_columns) {
#pragma unroll
      for (int k = 0; k < S::rows; k += 16 * S::groups)
        sums.add(memory.stage[stage], k + group * 16, own_out, own_in, counts_product, counts_columns);
    }
    free = stage;
    if (++stage == S::stages) stage = 0;
  }
  wait_for_copies<0>();
  __syncthreads();

  if (counts_columns && lane % 4 == 0) {
#pragma unroll
    for (int j = 0; j < S::lefts / S::warps_in; ++j) {
      float* to = &memory.columns[group][own_out + (j * S::warps_in + warp_column) * 16 + lane / 4];
      to[0] = sums.column[j].value[0];
      to[8] = sums.column[j].value[2];
    }
  }
  float* partial = task.partial + (static_cast<std::size_t>(share) * task.tiles + tile) * S::results;
  // Pieces are stored as the lanes hold them, which writes whole lines.
  const auto store_piece = [&](int m, int n, const tensor::Sums& s) {
    if (own_out + m * 16 < place.outs && own_in + n * 8 < place.ins)
      store(partial + (((own * S::lefts + m) * S::rights + n) * 32 + lane) * 4, s.value);
  };
  if constexpr (S::groups == 1) {
    sums.template for_group<0>(store_piece);
    __syncthreads();
  } else {
    // Each group finishes half of the tile.
    constexpr int each = S::lefts / 2 * S::rights;
    const auto hand_over = [&](int m, int n, const tensor::Sums& s) {
      store(memory.handed[group][own * each + m % (S::lefts / 2) * S::rights + n][lane], s.value);
    };
    const auto finish = [&](int m, int n, tensor::Sums& s) {
      float other[4];
      load(memory.handed[1 - group][own * each + m % (S::lefts / 2) * S::rights + n][lane], other);
#pragma unroll
      for (int i = 0; i < 4; ++i) s.value[i] += other[i];
      store_piece(m, n, s);
    };
    if (group == 0)
      sums.template for_group<1>(hand_over);
    else
      sums.template for_group<0>(hand_over);
    __syncthreads();
    if (group == 0)
      sums.template for_group<0>(finish);
    else
      sums.template for_group<1>(finish);
  }
  if (!place.has_bias(task)) return;
  for (int c = static_cast<int>(threadIdx.x); c < place.outs; c += S::threads)
    partial[S::out * S::in + c] = memory.columns[0][c] + (S::groups > 1 ? memory.columns[S::groups - 1][c] : 0.0f);
}

inline constexpr int finish_warps = 8;

/// Adds up the shares of 128 results: a piece of a weight, or a part of a bias. Grid: tiles times such results of each.
template <class S>
__global__ void __launch_bounds__(32 * finish_warps) add_shares(const __grid_constant__ Tasks tasks) {
  constexpr unsigned units = S::results / 128;
  __shared__ alignas(16) float of_warp[finish_warps][128];
  const int unit = static_cast<int>(blockIdx.x % units);
  const Task& task = find(tasks, &Task::first_tile, blockIdx.x / units);
  const unsigned tile = blockIdx.x / units - task.first_tile;
  const Place<S> place(task, tile);
  const bool is_bias = unit >= S::pieces;
  const int own = unit / (S::lefts * S::rights);
  const int first_out =
      is_bias ? (unit - S::pieces) * 128 : own % S::warps_out * S::warp_out + unit / S::rights % S::lefts * 16;
  const int first_in = is_bias ? 0 : own / S::warps_out * S::warp_in + unit % S::rights * 8;
  if (first_out >= place.outs || first_in >= place.ins || (is_bias && !place.has_bias(task))) return;

  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const std::size_t stride = std::size_t{task.tiles} * S::results;
  const float* from = task.partial + std::size_t{tile} * S::results + static_cast<unsigned>(unit) * 128 + lane * 4;
  float sum[4]{};
  add_shares_in_turn<finish_warps>(from, stride, task.shares, sum);
  store(&of_warp[warp][lane * 4], sum);
  __syncthreads();
  if (threadIdx.x >= 128) return;
  // Thread 8 r + c takes row r and column c of a piece, or thread c column c of dy.
  const int t = static_cast<int>(threadIdx.x);
  const int at = is_bias ? t : (t / 8 % 8 * 4 + t % 8 / 2) * 4 + t / 64 * 2 + t % 2;
  const int row = first_out + (is_bias ? t : t / 8);
  const int column = place.first_in + first_in + t % 8;
  if (row >= place.outs) return;
  float total = 0;
#pragma unroll
  for (int w = 0; w < finish_warps; ++w) total += of_warp[w][at];
  float* to = is_bias ? task.of.d_bias : task.of.d_weight + column;
  to[static_cast<std::size_t>(place.first_out + row) * (is_bias ? 1 : task.of.in)] += total;
}

template <class S>
void add(Queue& queue, std::span<const WeightGradient> gradients, Index rows) {
  // How long a tile takes per row: half of it is what a narrow one costs, too.
  const auto cost = [](const WeightGradient& g) {
    return S::out + S::in + std::min(S::out, g.out) + std::min(S::in, g.in);
  };
  Tasks tasks{.task = {}, .count = static_cast<unsigned>(gradients.size()), .rows = static_cast<unsigned>(rows)};
  unsigned all_tiles = 0;
  double all_cost = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    Task& task = tasks.task[i];
    task.of = gradients[i];
    task.tiles_in = static_cast<unsigned>((task.of.in + S::in - 1) / S::in);
    task.tiles = static_cast<unsigned>((task.of.out + S::out - 1) / S::out) * task.tiles_in;
    task.first_tile = all_tiles;
    all_tiles += task.tiles;
    all_cost += static_cast<double>(task.tiles) * cost(task.of);
  }
  // All blocks run at once, unless that would leave many multiprocessors without a block.
  const Index at_once = Index{S::blocks} * queue.multiprocessors();
  const Index blocks = 4 * Index{all_tiles} > at_once ? 4 * at_once : at_once;
  const Index steps = (rows + S::rows - 1) / S::rows;
  unsigned all_blocks = 0;
  for (Task& task : std::span(tasks.task).first(gradients.size())) {
    // No smaller number of rows wants more shares, so that a rehearsal with the most rows is enough.
    const Index wanted = std::clamp<Index>(static_cast<Index>(static_cast<double>(blocks) * cost(task.of) / all_cost),
                                           1, std::max<Index>(1, steps / S::stages));
    task.partial = queue.take<float>(wanted * task.tiles * S::results);
    const Index share = std::max<Index>(1, (steps + wanted - 1) / wanted);
    task.rows = static_cast<unsigned>(share * S::rows);
    task.shares = static_cast<unsigned>((steps + share - 1) / share);
    task.first_block = all_blocks;
    all_blocks += task.tiles * task.shares;
  }
  queue.launch("the gradients of weights", add_products<S>, dim3(all_blocks), dim3(S::threads), sizeof(Memory<S>),
               tasks);
  queue.launch("the gradients of weights", add_shares<S>, dim3(rows > 0 ? all_tiles * (S::results / 128) : 0),
               dim3(32 * finish_warps), 0, tasks);
}

}  // namespace weight_gradient_detail

/// Adds all gradients, each of which the kernel `takes`; at most `most_weight_gradients`, to places that do not
/// overlap. The order of summation depends on the shapes and the number of multiprocessors alone.
inline void add_weight_gradients(Queue& queue, std::span<const WeightGradient> gradients, Index rows) {
  if (gradients.size() > most_weight_gradients) throw Error("CUDA: too many gradients of weights at once");
  if (weight_gradient_warpgroup::is_there())
    weight_gradient_warpgroup::add(queue, gradients, rows);
  else
    weight_gradient_detail::add<weight_gradient_detail::Default>(queue, gradients, rows);
}

}  // namespace mad::cuda
