// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of a norm with the matrix products whose sum it is given, of bfloat16 values, in one kernel, for code
/// for `90a` (formulas in ops/norm.hpp):
///
///     dn = sum over i of dy_i W_i,   g = dn w,   dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps) + addend,
///     dw = sum over rows of dn xhat,   db = sum over rows of dn
///
/// with x and dx (rows, 128), dy_i (rows, inner_i), W_i (inner_i, 128). dn is nowhere in memory. A block has all
/// weights in shared memory, and four warps together the sums of 64 rows in registers. The copy engine brings dy and
/// takes dx away.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/device/tensor_map.hpp>
#include <mad/cuda/instructions/tensor_copy.cuh>
#include <mad/cuda/instructions/warpgroup.cuh>
#include <mad/cuda/products/norm_gradient_rows.cuh>
#include <mad/cuda/products/normed_products.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda {

namespace norm_gradient_product {

using normed_products::aligned;
using normed_products::panel;
using normed_products::tile_rows;
using normed_products::warpgroups;
static_assert(width == normed_products::width);
inline constexpr int most_panels = 8;  ///< of summands, of all products
inline constexpr int warp_rows = tile_rows / 4;
inline constexpr int computing_threads = 128 * warpgroups;
/// Registers are shared out to warps by fours, and those that compute get what one that copies does not need.
inline constexpr int threads = computing_threads + 128;
inline constexpr int copying_registers = 24;
inline constexpr int computing_registers = 240;

/// What lies in shared memory, in bytes from a multiple of 1024.
struct Memory {
  static constexpr int rows_panel = tile_rows * panel * 2;  ///< of dy
  static constexpr int weight_panel = panel * width * 2;    ///< two boxes
  static constexpr int results_bytes = width / panel * rows_panel;
  static constexpr int results = 0;  ///< of each warpgroup, on their way out
  static constexpr int column_sums = results + warpgroups * results_bytes;
  static constexpr int barriers = column_sums + warpgroups * 4 * sums * static_cast<int>(sizeof(float));
  static constexpr int weights = barriers + 1024;
  static constexpr int most = 226 * 1024;
  static constexpr int rows(int panels) { return weights + panels * weight_panel; }
  /// Panels of dy that a warpgroup has in shared memory, or on their way.
  static constexpr int stages(int panels) {
    return std::min(6, (most - 1024 - rows(panels)) / (warpgroups * rows_panel));
  }
  static constexpr int bytes(int panels) { return rows(panels) + stages(panels) * warpgroups * rows_panel + 1024; }
  static_assert((2 * 6 * warpgroups + most_panels) * TransferBarrier::size <= 1024);
};

/// 64 summands of a product.
struct Panel {
  int product;
  int first;
};
struct Operands {
  CUtensorMap dy[GroupedProduct::most_terms];
  CUtensorMap weight[GroupedProduct::most_terms];
  CUtensorMap dx;
  Panel panel[most_panels];
  int panels;
  int stages;
  int tiles;
  int rows;
  const BFloat16* x;
  const BFloat16* addend;  ///< or null
  unsigned x_stride;
  unsigned addend_stride;
  const float* norm_weight;
  float epsilon;
  float* partial;  ///< (blocks, 2 x 128)
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

using normed_products::WarpRows;

struct Block {
  std::uint32_t shared;
  int panels;
  int stages;

  __device__ TransferBarrier here(int warpgroup, int stage) const { return barrier(warpgroup * stages + stage); }
  __device__ TransferBarrier free(int warpgroup, int stage) const {
    return barrier((warpgroups + warpgroup) * stages + stage);
  }
  __device__ TransferBarrier weight_here(int p) const { return barrier(2 * warpgroups * stages + p); }
  __device__ std::uint32_t rows(int warpgroup, int stage) const {
    return shared + Memory::weights + panels * Memory::weight_panel + (warpgroup * stages + stage) * Memory::rows_panel;
  }
  __device__ std::uint32_t weight(int p) const { return shared + Memory::weights + p * Memory::weight_panel; }
  __device__ std::uint32_t results(int warpgroup) const {
    return shared + Memory::results + warpgroup * Memory::results_bytes;
  }

private:
  __device__ TransferBarrier barrier(int i) const {
    return TransferBarrier(shared + Memory::barriers + i * TransferBarrier::size);
  }
};

/// Where a thread is in a ring of stages.
struct Turn {
  int stage = 0;
  int parity = 0;
  __device__ void advance(int stages) {
    stage = stage == stages - 1 ? 0 : stage + 1;
    parity ^= stage == 0 ? 1 : 0;
  }
};

/// One thread has all rows and weights copied, in the order in which they are needed.
__device__ inline void copy_all(const Block& block, const Operands& of) {
  Turn turn;
  bool is_first = true;
  for (int first = static_cast<int>(blockIdx.x) * warpgroups; first < of.tiles;
       first += static_cast<int>(gridDim.x) * warpgroups, is_first = false) {
    for (int p = 0; p < of.panels; ++p, turn.advance(of.stages)) {
      const Panel& from = of.panel[p];
      if (is_first) {
        block.weight_here(p).arrive_and_expect(Memory::weight_panel);
        for (int c = 0; c < width / panel; ++c)
          copy_box(block.weight(p) + c * Memory::rows_panel, of.weight[from.product], from.first, c * panel,
                   block.weight_here(p));
      }
      for (int w = 0; w < warpgroups && first + w < of.tiles; ++w) {
        block.free(w, turn.stage).wait(turn.parity ^ 1);
        block.here(w, turn.stage).arrive_and_expect(Memory::rows_panel);
        copy_box(block.rows(w, turn.stage), of.dy[from.product], (first + w) * tile_rows, from.first,
                 block.here(w, turn.stage));
      }
    }
  }
}

/// dn of the warpgroup's rows of a tile.
__device__ inline void multiply(const Block& block, int warpgroup, Turn& turn, tensor::Sums (&dn)[width / 8]) {
  int before = 0;
  for (int p = 0; p < block.panels; ++p) {
    block.here(warpgroup, turn.stage).wait(turn.parity);
    block.weight_here(p).wait(0);
    const auto dy = tensor::SharedFactor::at(block.rows(warpgroup, turn.stage), 2 * panel, 0);
    const auto weight = tensor::SharedFactor::at(block.weight(p), 2 * panel, Memory::rows_panel);
    tensor::begin_products();
#pragma unroll
    for (int s = 0; s < panel / 16; ++s)
      tensor::multiply_add_stored_async(dn, dy.behind(16 * s * 2), weight.behind(16 * s * 2 * panel));
    tensor::commit_products();
    tensor::wait_for_products<1>();  // those of the panel before have been read
    if (p > 0 && threadIdx.x % 128 == 0) block.free(warpgroup, before).arrive();
    before = turn.stage;
    turn.advance(block.stages);
  }
  tensor::wait_for_products();
  if (threadIdx.x % 128 == 0) block.free(warpgroup, before).arrive();
  tensor::pin(dn);
}

/// The warpgroup's rows of one tile after the other.
template <bool Centred>
__device__ void compute(const Block& block, const Operands& of, float* column_sums) {
  using Rows = FactorRows<width, Centred>;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 % 4 * warp_rows;
  const bool sends = lane == 0;  // a warp's rows go away by themselves
  const WarpRows results(block.results(warpgroup));
  ColumnSums<Rows> columns;
  Turn turn;
  for (int tile = static_cast<int>(blockIdx.x) * warpgroups + warpgroup; tile < of.tiles;
       tile += static_cast<int>(gridDim.x) * warpgroups) {
    const int row = tile * tile_rows + warp_row;
    tensor::Left<16> x[width / 16];
    tensor::Left<16> more[width / 16]{};
    read_rows(of.x, of.x_stride, row, of.rows, x);
    if (of.addend != nullptr) read_rows(of.addend, of.addend_stride, row, of.rows, more);
    tensor::Sums dn[width / 8]{};
    multiply(block, warpgroup, turn, dn);
    const Rows rows(x, of.epsilon);
    const bool here[2] = {row + lane / 4 < of.rows, row + lane / 4 + 8 < of.rows};
    columns.add(rows, x, dn, here);
    const RowGradient<Centred> gradient(rows, x, dn, of.norm_weight);
    if (sends) wait_for_boxes_to_be_read();  // of the tile before
    __syncwarp();
#pragma unroll
    for (int s = 0; s < width / 16; ++s) {
      std::uint32_t words[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const int half = part % 2;
        float dx[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          dx[i] = gradient.dx(rows, dn[2 * s + part / 2].value[2 * half + i], x[s].part[part], i, half) +
                  tensor::number_of(more[s].part[part], i);
        words[part] = tensor::pack(dx[0], dx[1]);
      }
      tensor::store_matrices(results.eight(2 * s + lane / 16), words);
    }
    show_to_copies();
    __syncwarp();
    if (sends && row < of.rows) {
      for (int p = 0; p < width / panel; ++p)
        store_box(block.results(warpgroup) + p * Memory::rows_panel + warp_row * 2 * panel, of.dx, row, p * panel);
      commit_boxes();
    }
  }
  columns.store(column_sums + threadIdx.x / 32 * sums);
  if (sends) wait_for_boxes_to_be_read();
}

template <bool Centred>
__device__ void run(const Operands& of, std::byte* memory) {
  memory += (1024 - __cvta_generic_to_shared(memory) % 1024) % 1024;
  const Block block{static_cast<std::uint32_t>(__cvta_generic_to_shared(memory)), of.panels, of.stages};
  auto* column_sums = reinterpret_cast<float*>(memory + Memory::column_sums);
  if (threadIdx.x == computing_threads) {
    for (int w = 0; w < warpgroups; ++w)
      for (int s = 0; s < of.stages; ++s) {
        block.here(w, s).start(1);
        block.free(w, s).start(1);
      }
    for (int p = 0; p < of.panels; ++p) block.weight_here(p).start(1);
    show_barriers();
  }
  __syncthreads();
  if (threadIdx.x < computing_threads) {
    tensor::get_registers<computing_registers>();
    compute<Centred>(block, of, column_sums);
  } else {
    tensor::give_registers<copying_registers>();
    if (threadIdx.x == computing_threads) copy_all(block, of);
  }
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x);
  static_assert(threads >= sums);
  if (column < sums)
    of.partial[blockIdx.x * sums + column] = sum_of_warps<computing_threads / 32>(column_sums, sums, column);
}

#endif

/// Grid: blocks that go from two tiles of rows to the next. Only code for `90a` has it, and says so by its number of
/// threads.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <int Threads, bool Centred>
__global__ void __launch_bounds__(Threads, 1) backward(const __grid_constant__ Operands operands) {
  extern __shared__ float4 dynamic_memory[];
  run<Centred>(operands, reinterpret_cast<std::byte*>(dynamic_memory));
}
#else
template <int Threads, bool Centred>
__global__ void __launch_bounds__(32, 1) backward(const __grid_constant__ Operands) {}
#endif

inline int panels(int inner) { return (inner + panel - 1) / panel; }

/// True for products (a sum of terms) that the kernel can compute for the gradient of such a norm.
inline bool takes(const GroupedProduct& p) {
  int count = 0;
  bool all = p.columns == width && p.addend == nullptr && p.bias == nullptr;
  for (int t = 0; t < p.terms; ++t) {
    const GroupedProduct::Term& term = p.term[static_cast<std::size_t>(t)];
    all = all && term.in_out && term.inner % 8 == 0 && aligned(term.x, term.x_stride) && aligned(term.weight, 0);
    count += panels(term.inner);
  }
  return all && count <= most_panels && normed_products::is_there();
}

/// True for the gradient of a norm, of rows of 128 columns, that the kernel can compute.
inline bool takes(const NormGradient& n) {
  return aligned(n.dx, n.dx_stride) && n.x_stride % 2 == 0 && n.addend_stride % 2 == 0 &&
         reinterpret_cast<std::uintptr_t>(n.x) % 4 == 0 && reinterpret_cast<std::uintptr_t>(n.addend) % 4 == 0 &&
         reinterpret_cast<std::uintptr_t>(n.weight) % 8 == 0;
}

inline int blocks(const Queue& queue, Index rows) {
  const Index tiles = (rows + tile_rows - 1) / tile_rows;
  return static_cast<int>(std::min<Index>((tiles + warpgroups - 1) / warpgroups, queue.multiprocessors()));
}

/// \param partial gets 2 x 128 sums of each block, of dw and db
template <class = void>
void run(Queue& queue, const GroupedProduct& p, const NormGradient& n, Index rows, float* partial) {
  if (queue.rehearsing() || rows == 0) return;
  Operands of{};
  for (int t = 0; t < p.terms; ++t) {
    const GroupedProduct::Term& term = p.term[static_cast<std::size_t>(t)];
    of.dy[t] = tensor_map(term.x, rows, term.inner, static_cast<Index>(term.x_stride), tile_rows, panel);
    of.weight[t] = tensor_map(term.weight, term.inner, width, width, panel, panel);
    for (int k = 0; k < term.inner; k += panel) of.panel[of.panels++] = {t, k};
  }
  of.dx = tensor_map(n.dx, rows, width, static_cast<Index>(n.dx_stride), warp_rows, panel);
  of.stages = Memory::stages(of.panels);
  of.tiles = static_cast<int>((rows + tile_rows - 1) / tile_rows);
  of.rows = static_cast<int>(rows);
  of.x = n.x;
  of.x_stride = static_cast<unsigned>(n.x_stride);
  of.addend = n.addend;
  of.addend_stride = static_cast<unsigned>(n.addend_stride);
  of.norm_weight = n.weight;
  of.epsilon = n.epsilon;
  of.partial = partial;
  const auto launch = [&](auto kernel) {
    queue.launch("the gradient of a norm with its products", kernel, dim3(static_cast<unsigned>(blocks(queue, rows))),
                 dim3(threads), static_cast<std::size_t>(Memory::bytes(of.panels)), of);
  };
  if (n.centred)
    launch(backward<threads, true>);
  else
    launch(backward<threads, false>);
}

}  // namespace norm_gradient_product
}  // namespace mad::cuda
