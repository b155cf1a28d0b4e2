// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention under a Toeplitz mask in bfloat16 on the tensor cores: the sums over positions. Sums that look ahead are
/// those that look back with the positions in reverse order.
#pragma once

#include <mad/cuda/kernels/toeplitz_attention/filter.cuh>
#include <mad/cuda/kernels/toeplitz_attention/rows.cuh>

namespace mad::cuda::toeplitz_tensor {

using toeplitz::Filter;

inline constexpr int largest_width = 64;  ///< of heads whose rows fit into shared memory

/// How sequences are cut for heads of `padded` channels.
template <int Padded>
struct Cut {
  static constexpr int tiles = Padded <= 32 ? 2 : 1;  ///< of 16 rows, a warp's at once
  static constexpr int own = 16 * tiles;
  static constexpr int step = 32;                        ///< keys at once
  static constexpr int span = 16384 / Padded / 64 * 64;  ///< positions whose keys and values are in shared memory
  static constexpr int most_warps = 8;
};

/// What the blocks of a launch share out. While all positions fit into a span, a block computes all rows of a sequence,
/// and one sequence after the other; otherwise as many rows as its warps take at once.
struct Work {
  int batch;
  int positions;   ///< the length, rounded up to whole steps
  int span;        ///< no more than the positions
  int row_blocks;  ///< of a sequence
  int factors;     ///< of the filter in shared memory
  int warps;

  static constexpr int lead = 32;  ///< lags before 0 that are looked at: a row does not see the keys behind it

  template <class Cut>
  static Work of(const Shape& shape) {
    Work p{};
    p.batch = static_cast<int>(shape.batch);
    p.positions = static_cast<int>((shape.length + Cut::step - 1) / Cut::step * Cut::step);
    p.span = std::min(p.positions, Cut::span);
    p.warps = std::min(Cut::most_warps, p.positions / Cut::own);
    const int rows = p.warps * Cut::own;
    p.row_blocks = p.span == p.positions ? 1 : (p.positions + rows - 1) / rows;
    p.factors = lead + p.span + (p.row_blocks > 1 ? rows : 0);
    return p;
  }
  std::size_t bytes(int padded) const {
    return sizeof(float2) * static_cast<std::size_t>(factors) + 4 * static_cast<std::size_t>(span * padded);
  }
};

/// Sums over positions. Grid: (shares of the batch, heads times Count, blocks of rows).
template <int Width, int Chunk, int Count>
__global__ void __launch_bounds__(32 * Cut<HeadRows<Width, Chunk>::padded>::most_warps, 2)
    sum_positions(const __grid_constant__ toeplitz::SumList<BFloat16, Count> sums, const Filter filter,
                  const Work work) {
  using Rows = HeadRows<Width, Chunk>;
  using C = Cut<Rows::padded>;
  constexpr int units = Rows::units;
  extern __shared__ float4 dynamic_memory[];
  BFloat16* const keys = reinterpret_cast<BFloat16*>(dynamic_memory);
  const int apart = work.span * Rows::padded;
  float2* const factors = reinterpret_cast<float2*>(keys + 2 * apart);  // f[lag] and f[lag - 1] from `low` on
  const toeplitz::Sum<BFloat16>& of = sums.sum[blockIdx.y % Count];
  const int head = static_cast<int>(blockIdx.y) / Count;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int rows = work.warps * C::own;
  // Groups of rows that the warps take at once; the longest sums begin first.
  const int first_group = static_cast<int>(gridDim.z - 1 - blockIdx.z);
  const int end_group = work.row_blocks > 1 ? first_group + 1 : (work.positions + rows - 1) / rows;
  const int end = min(end_group * rows, work.positions);
  const typename Rows::Places places;
  int unit_place[units];  // of 32 rows of one unit
#pragma unroll
  for (int u = 0; u < units; ++u) unit_place[u] = Rows::place(lane, u);
  bool has_factors = false;
  for (int b = static_cast<int>(blockIdx.x); b < work.batch; b += static_cast<int>(gridDim.x)) {
    const auto of_head = [&](const auto& x) { return Positions(x, b, filter.length, of.ahead, head * Width); };
    const Positions queries = of_head(of.query);
    const Positions results = of_head(of.out);
    tensor::Sums sum[C::tiles][units];
    for (int s0 = 0; s0 < end; s0 += work.span) {
      const auto first_of = [&](int g) {
        return (g * work.warps + (g % 2 == 0 ? warp : work.warps - 1 - warp)) * C::own;
      };
      typename Rows::Left query[C::tiles];
      const auto load_query = [&](int g) {
#pragma unroll
        for (int i = 0; i < C::tiles; ++i) query[i] = Rows::load_left(queries, first_of(g) + 16 * i);
      };
      load_query(first_group);
      const int low = max(first_group * rows - s0 - work.span, -Work::lead);
      __syncthreads();  // the last keys are no longer needed
      Rows::load(keys, apart, of_head(of.key), of_head(of.value), s0, min(work.span, work.positions - s0));
      if (!has_factors || work.row_blocks > 1)
        for (int i = static_cast<int>(threadIdx.x); i < work.factors; i += static_cast<int>(blockDim.x))
          factors[i] = {filter(head, low + i), filter(head, low + i - 1)};
      has_factors = true;
      __syncthreads();
      for (int g = first_group; g < end_group; ++g) {
        const int first = first_of(g);
        if (first >= work.positions) continue;
        if (g > first_group) load_query(g);
        if (s0 == 0)
#pragma unroll
          for (int i = 0; i < C::tiles; ++i)
#pragma unroll
            for (int u = 0; u < units; ++u) sum[i][u] = {};
        // The factor of this lane's first row and column; those of later rows lie above it, of later columns below.
        const float2* factor = factors + first - s0 - low + lane / 4 - lane % 4 * 2;
        const BFloat16* key = keys;
        for (int s = s0; s < min(s0 + work.span, first + C::own); s += C::step) {
          typename Rows::Right right[4];  // 8 keys each
          std::uint32_t value[units][4];  // 8 positions each
          float2 f[2 * C::tiles + 3];
#pragma unroll
          for (int k = 0; k < 4; k += 2) Rows::right_of(key + 8 * k * Rows::padded, places, right[k], right[k + 1]);
#pragma unroll
          for (int k = 0; k < 2 * C::tiles + 3; ++k) f[k] = factor[8 * (k - 3)];
#pragma unroll
          for (int u = 0; u < units; ++u) load_blocks_transposed(key + apart + unit_place[u], value[u]);
#pragma unroll
          for (int i = 0; i < C::tiles; ++i) {
            tensor::Sums weight[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
              weight[k] = product(query[i], right[k]);
              const float2 above = f[2 * i - k + 3];
              const float2 below = f[2 * i - k + 4];
              weight[k].value[0] *= above.x;
              weight[k].value[1] *= above.y;
              weight[k].value[2] *= below.x;
              weight[k].value[3] *= below.y;
            }
#pragma unroll
            for (int k = 0; k < 4; k += 2) {
              const tensor::Left<16> weights = tensor::as_left(weight[k], weight[k + 1]);
#pragma unroll
              for (int u = 0; u < units; ++u)
                tensor::multiply_add(sum[i][u], weights, tensor::Right<16>{{value[u][k], value[u][k + 1]}});
            }
          }
          key += C::step * Rows::padded;
          factor -= C::step;
        }
        if (s0 + work.span >= end)
#pragma unroll
          for (int i = 0; i < C::tiles; ++i) Rows::store(sum[i], results, first + 16 * i);
      }
    }
  }
}

template <int Width, int Chunk, int Count>
void launch_sums(Queue& queue, const toeplitz::SumList<BFloat16, Count>& sums, const Filter& filter,
                 const Shape& shape) {
  constexpr int padded = HeadRows<Width, Chunk>::padded;
  const Work work = Work::of<Cut<padded>>(shape);
  // As many blocks as run at the same time, with the same number of sequences each.
  const Index at_once = Index{queue.multiprocessors()} * (16 / work.warps);
  const Index shares = toeplitz::even_shares(shape.batch, at_once / (Index{Count} * filter.heads * work.row_blocks));
  const dim3 grid(static_cast<unsigned>(shares), static_cast<unsigned>(Count * filter.heads),
                  static_cast<unsigned>(work.row_blocks));
  queue.launch("Toeplitz attention", sum_positions<Width, Chunk, Count>, grid, dim3(32 * work.warps),
               work.bytes(padded), sums, filter, work);
}

}  // namespace mad::cuda::toeplitz_tensor
