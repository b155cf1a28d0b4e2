// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Matrix products of the norm of bfloat16 rows, with the norm in the same kernel, for code for `90a`:
///
///     n = norm(x),  y_i = n W_i^T + b_i       x and n (rows, 128), W_i (columns_i, 128)
///
/// A block has all weights in shared memory, and four warps together 64 rows in registers. The copy engine brings rows
/// and weights and takes n and y away, so that no warp waits for memory but for its first rows.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/device/tensor_map.hpp>
#include <mad/cuda/instructions/tensor_copy.cuh>
#include <mad/cuda/instructions/warpgroup.cuh>
#include <mad/cuda/products/factor_norm.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mad::cuda {

namespace normed_products {

inline constexpr int width = 128;  ///< of the rows
inline constexpr int panel = 64;   ///< columns that the copy engine moves at once
inline constexpr int tile_rows = 64;
inline constexpr int part = 128;  ///< columns of a product that are computed together
inline constexpr int most_parts = 4;
inline constexpr int warpgroups = 2;
inline constexpr int computing_threads = 128 * warpgroups;
inline constexpr int threads = computing_threads + 32;

/// What lies in shared memory, in bytes from a multiple of 1024.
struct Memory {
  static constexpr int rows_panel = tile_rows * panel * 2;
  static constexpr int weight_panel = part * panel * 2;
  static constexpr int rows = 0;  ///< of each warpgroup; in the end their norm
  static constexpr int rows_bytes = width / panel * rows_panel;
  static constexpr int results = warpgroups * rows_bytes;  ///< on their way out
  static constexpr int results_bytes = part / panel * rows_panel;
  static constexpr int barriers = results + warpgroups * results_bytes;
  static constexpr int weights = barriers + 1024;
  static constexpr int weight_bytes = width / panel * weight_panel;
  static constexpr int bytes(int parts) { return weights + parts * weight_bytes + 1024; }
};

/// Columns [first, first + 128) of a product, or those of them that there are.
struct Part {
  int product;
  int first;
};
struct Products {
  CUtensorMap x;
  CUtensorMap norm;
  CUtensorMap weight[most_parts];  ///< of the products
  CUtensorMap y[most_parts];
  const BFloat16* bias[most_parts];
  int columns[most_parts];
  Part part[most_parts];
  int parts;
  int tiles;
  const float* norm_weight;
  const float* norm_bias;
  float epsilon;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct Block {
  std::uint32_t shared;
  int own;  ///< the warpgroup

  __device__ TransferBarrier rows_here(int of) const { return barrier(of); }
  __device__ TransferBarrier rows_free(int of) const { return barrier(warpgroups + of); }
  __device__ TransferBarrier weight_here(int p) const { return barrier(2 * warpgroups + p); }
  __device__ std::uint32_t rows(int of) const { return shared + Memory::rows + of * Memory::rows_bytes; }
  __device__ std::uint32_t results() const { return shared + Memory::results + own * Memory::results_bytes; }
  __device__ std::uint32_t weight(int p) const { return shared + Memory::weights + p * Memory::weight_bytes; }

  /// The four warps wait for each other.
  __device__ void meet() const { asm volatile("bar.sync %0, 128;" : : "r"(1 + own) : "memory"); }

private:
  __device__ TransferBarrier barrier(int i) const {
    return TransferBarrier(shared + Memory::barriers + i * TransferBarrier::size);
  }
};

/// One thread has all rows and weights copied.
__device__ inline void copy_all(const Block& block, const Products& of) {
  int parity = 1;
  for (int first = static_cast<int>(blockIdx.x) * warpgroups; first < of.tiles;
       first += static_cast<int>(gridDim.x) * warpgroups, parity ^= 1) {
    for (int w = 0; w < warpgroups && first + w < of.tiles; ++w) {
      block.rows_free(w).wait(parity);
      block.rows_here(w).arrive_and_expect(Memory::rows_bytes);
      for (int p = 0; p < width / panel; ++p)
        copy_box(block.rows(w) + p * Memory::rows_panel, of.x, (first + w) * tile_rows, p * panel, block.rows_here(w));
    }
    if (first != static_cast<int>(blockIdx.x) * warpgroups) continue;
    for (int i = 0; i < of.parts; ++i) {
      block.weight_here(i).arrive_and_expect(Memory::weight_bytes);
      for (int p = 0; p < width / panel; ++p)
        copy_box(block.weight(i) + p * Memory::weight_panel, of.weight[of.part[i].product], of.part[i].first, p * panel,
                 block.weight_here(i));
    }
  }
}

/// Where eight columns of a row of the warp lie in panels, for the lane that gives their address.
struct WarpRows {
  std::uint32_t row;
  std::uint32_t swizzle;

  __device__ explicit WarpRows(std::uint32_t panels) {
    const unsigned r = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 16;
    row = panels + r * 2 * panel;
    swizzle = r % 8;
  }
  __device__ BFloat16* eight(int e) const {
    const std::uint32_t at = row + static_cast<std::uint32_t>(e / 8 * Memory::rows_panel) +
                             ((static_cast<std::uint32_t>(e % 8) ^ swizzle) * 16);
    return static_cast<BFloat16*>(__cvta_shared_to_generic(at));
  }
};

/// The warpgroup's rows of one tile after the other.
template <bool Centred, bool HasBias>
__device__ void compute(const Block& block, const Products& of) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool sends = threadIdx.x % 128 == 0;
  const int high = lane / 16;  // of two neighbouring eights
  const WarpRows rows(block.rows(block.own));
  const WarpRows results(block.results());
  int parity = 0;
  for (int tile = static_cast<int>(blockIdx.x) * warpgroups + block.own; tile < of.tiles;
       tile += static_cast<int>(gridDim.x) * warpgroups, parity ^= 1) {
    const int row = tile * tile_rows;
    FactorNorm<width, Centred, HasBias> norm;  // there are not the registers to keep it
    norm.load(of.norm_weight, of.norm_bias);
    block.rows_here(block.own).wait(parity);
    tensor::Left<16> x[width / 16];
#pragma unroll
    for (int s = 0; s < width / 16; ++s) tensor::load_matrices<false>(rows.eight(2 * s + high), x[s].part);
    norm.apply(x, of.epsilon);
#pragma unroll
    for (int s = 0; s < width / 16; ++s) tensor::store_matrices(rows.eight(2 * s + high), x[s].part);
    show_to_copies();
    block.meet();
    if (sends) {
      for (int p = 0; p < width / panel; ++p)
        store_box(block.rows(block.own) + p * Memory::rows_panel, of.norm, row, p * panel);
      commit_boxes();
    }
    for (int i = 0; i < of.parts; ++i) {
      block.weight_here(i).wait(0);
      tensor::Sums sums[part / 8];
      const auto weight = tensor::SharedFactor::at(block.weight(i), 2 * panel, Memory::weight_panel);
      tensor::begin_products();
#pragma unroll
      for (int s = 0; s < width / 16; ++s)
        tensor::multiply_add_async<part, false>(
            sums, x[s], weight.behind(16 * s / panel * Memory::weight_panel + 16 * s % panel * 2), s > 0);
      tensor::commit_products();
      const int first = of.part[i].first;
      const int columns = of.columns[of.part[i].product] - first;
      const BFloat16* bias = of.bias[of.part[i].product];
      std::uint32_t shift[part / 8]{};
      if (bias != nullptr)
#pragma unroll
        for (int t = 0; t < part / 8; ++t)
          if (t * 8 < columns) shift[t] = *reinterpret_cast<const std::uint32_t*>(bias + first + t * 8 + lane % 4 * 2);
      tensor::wait_for_products();
      tensor::pin(sums);
      tensor::pin(x);
      // What is on its way out from here has been read; the first time, the norm of the rows has been as well.
      if (sends) wait_for_boxes_to_be_read();
      if (sends && i == 0) block.rows_free(block.own).arrive();
      block.meet();
#pragma unroll
      for (int t = 0; t < part / 8; t += 2) {
        std::uint32_t words[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float(&value)[4] = sums[t + k / 2].value;
          const std::uint32_t add = shift[t + k / 2];
          words[k] = tensor::pack(value[k % 2 * 2] + tensor::number_of(add, 0),
                                  value[k % 2 * 2 + 1] + tensor::number_of(add, 1));
        }
        tensor::store_matrices(results.eight(t + high), words);
      }
      show_to_copies();
      block.meet();
      if (sends) {
        for (int p = 0; p < part / panel && p * panel < columns; ++p)
          store_box(block.results() + p * Memory::rows_panel, of.y[of.part[i].product], row, first + p * panel);
        commit_boxes();
      }
    }
  }
  if (sends) wait_for_boxes_to_be_read();
}

template <bool Centred, bool HasBias>
__device__ void run(const Products& of, std::byte* memory) {
  memory += (1024 - __cvta_generic_to_shared(memory) % 1024) % 1024;
  const Block block{static_cast<std::uint32_t>(__cvta_generic_to_shared(memory)), static_cast<int>(threadIdx.x) / 128};
  if (threadIdx.x == computing_threads) {
    for (int w = 0; w < warpgroups; ++w) {
      block.rows_here(w).start(1);
      block.rows_free(w).start(1);
    }
    for (int i = 0; i < of.parts; ++i) block.weight_here(i).start(1);
    show_barriers();
  }
  __syncthreads();
  if (threadIdx.x == computing_threads) copy_all(block, of);
  if (threadIdx.x < computing_threads) compute<Centred, HasBias>(block, of);
}

#endif

/// Grid: blocks that go from two tiles of rows to the next. Only code for `90a` has it, and says so by its number of
/// threads.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <int Threads, bool Centred, bool HasBias>
__global__ void __launch_bounds__(Threads, 1) multiply(const __grid_constant__ Products products) {
  extern __shared__ float4 dynamic_memory[];
  run<Centred, HasBias>(products, reinterpret_cast<std::byte*>(dynamic_memory));
}
#else
template <int Threads, bool Centred, bool HasBias>
__global__ void __launch_bounds__(32, 1) multiply(const __grid_constant__ Products) {}
#endif

/// True where the device has this code. A template, like `run`, so that a library can have the kernels (compiled.cuh).
template <class = void>
bool is_there() {
  const auto* kernel = reinterpret_cast<const void*>(multiply<threads, true, true>);
  return Queue::facts_of(kernel, "products of a norm").maxThreadsPerBlock >= threads;
}

inline bool aligned(const BFloat16* rows, std::size_t stride) {
  return reinterpret_cast<std::uintptr_t>(rows) % 16 == 0 && stride % 8 == 0;
}
/// True for a norm that the kernel can compute.
inline bool takes(const NormOfRows& n) {
  return n.width == width && n.weight != nullptr && aligned(n.x, n.x_stride) && aligned(n.y, n.y_stride) &&
         reinterpret_cast<std::uintptr_t>(n.weight) % 8 == 0 && reinterpret_cast<std::uintptr_t>(n.bias) % 8 == 0 &&
         is_there();
}
inline int parts(const GroupedProduct& p) { return (p.columns + part - 1) / part; }
/// True for a product that it can compute along with \p n, as one of several with so many parts in all.
inline bool takes(const NormOfRows& n, const GroupedProduct& p, int parts_before) {
  const GroupedProduct::Term& term = p.term.front();
  return p.terms == 1 && term.x == n.y && term.x_stride == n.y_stride && term.inner == n.width && !term.in_out &&
         p.addend == nullptr && p.columns % 8 == 0 && parts_before + parts(p) <= most_parts &&
         aligned(term.weight, 0) && aligned(p.y, p.y_stride) && reinterpret_cast<std::uintptr_t>(p.bias) % 4 == 0;
}

template <bool Centred, bool HasBias>
void launch(Queue& queue, const Products& products) {
  const int most = (products.tiles + warpgroups - 1) / warpgroups;
  queue.launch("products of a norm", multiply<threads, Centred, HasBias>,
               dim3(static_cast<unsigned>(std::min(most, queue.multiprocessors()))), dim3(threads),
               static_cast<std::size_t>(Memory::bytes(products.parts)), products);
}

/// Computes the norm and the products, which it takes together.
template <class = void>
void run(Queue& queue, const NormOfRows& n, std::span<const GroupedProduct> all, Index rows) {
  if (queue.rehearsing() || rows == 0) return;
  Products products{};
  products.x = tensor_map(n.x, rows, width, static_cast<Index>(n.x_stride), tile_rows, panel);
  products.norm = tensor_map(n.y, rows, width, static_cast<Index>(n.y_stride), tile_rows, panel);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const GroupedProduct& p = all[i];
    products.weight[i] = tensor_map(p.term.front().weight, p.columns, width, width, part, panel);
    products.y[i] = tensor_map(p.y, rows, p.columns, static_cast<Index>(p.y_stride), tile_rows, panel);
    products.bias[i] = p.bias;
    products.columns[i] = p.columns;
    for (int c = 0; c < p.columns; c += part) products.part[products.parts++] = {static_cast<int>(i), c};
  }
  products.tiles = static_cast<int>((rows + tile_rows - 1) / tile_rows);
  products.norm_weight = n.weight;
  products.norm_bias = n.bias;
  products.epsilon = n.epsilon;
  if (n.centred && n.bias != nullptr) return launch<true, true>(queue, products);
  if (n.centred) return launch<true, false>(queue, products);
  if (n.bias != nullptr) return launch<false, true>(queue, products);
  launch<false, false>(queue, products);
}

}  // namespace normed_products
}  // namespace mad::cuda
