// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear maps of very few inputs, such as the time step of Mamba: no matrix product to speak of, but rows to write.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/instructions/numbers.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>

#include <cstddef>
#include <cstdint>

namespace mad::cuda::few_inputs {

inline constexpr int most_inputs = 8;  ///< the summands of the smallest product
inline constexpr int columns = 32;     ///< of a warp: a lane has eight neighbours of each of its rows
inline constexpr int warps = 4;
inline constexpr int warp_tiles = 2;  ///< of 16 rows
inline constexpr unsigned block_rows = warps * warp_tiles * 16;

/// y = Function(x W^T + b), number by number; x (rows, In), W (Out, In), y (rows, Out). Grid: (blocks of rows, Out /
/// 32).
template <int In, class Function>
__global__ void __launch_bounds__(32 * warps)
    multiply(const BFloat16* x, std::size_t x_stride, const BFloat16* weight, const BFloat16* bias, BFloat16* y,
             std::size_t y_stride, unsigned rows) {
  static_assert(In % 2 == 0 && In <= most_inputs);
  const unsigned warp = threadIdx.x / 32;
  const unsigned row = threadIdx.x % 32 / 4;  // of eight, of rows and of columns
  const unsigned pair = threadIdx.x % 4;      // of summands; of eight neighbouring columns
  const bool has_summands = 2 * pair < In;
  const unsigned first_column = blockIdx.y * columns;
  // Column c of product j is column 8 (c / 2) + 2 j + c mod 2 of the warp's, so that a lane's sums are neighbours.
  tensor::Right<8> factor[4];
  float shift[8]{};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const unsigned column = first_column + row / 2 * 8 + 2 * j + row % 2;
    factor[j].part[0] =
        has_summands ? *reinterpret_cast<const std::uint32_t*>(weight + column * In + 2 * pair) : std::uint32_t{0};
  }
  if (bias != nullptr) load(bias + first_column + 8 * pair, shift);
  BFloat16* to = y + first_column + 8 * pair;
  // All rows are on their way before the first is stored, which for all the compiler knows might change them.
  const unsigned first_row = (blockIdx.x * warps + warp) * warp_tiles * 16 + row;
  tensor::Left<8> left[warp_tiles];
#pragma unroll
  for (int tile = 0; tile < warp_tiles; ++tile)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const unsigned own = first_row + tile * 16 + 8 * h;
      left[tile].part[h] = has_summands && own < rows
                               ? *reinterpret_cast<const std::uint32_t*>(x + own * x_stride + 2 * pair)
                               : std::uint32_t{0};
    }
#pragma unroll
  for (int tile = 0; tile < warp_tiles; ++tile) {
    tensor::Sums sum[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      sum[j] = {{shift[2 * j], shift[2 * j + 1], shift[2 * j], shift[2 * j + 1]}};
      tensor::multiply_add(sum[j], left[tile], factor[j]);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const unsigned own = first_row + tile * 16 + 8 * h;
      const auto two = [&](int j) {
        return tensor::pack(Function::apply(sum[j].value[2 * h]), Function::apply(sum[j].value[2 * h + 1]));
      };
      // An assignment is taken apart into four stores here.
      if (own < rows) __stwb(reinterpret_cast<uint4*>(to + own * y_stride), uint4{two(0), two(1), two(2), two(3)});
    }
  }
}

/// True for a map of bfloat16 rows that this form computes; \p C is a call of `linear_op`, or of one like it.
template <class C>
constexpr bool takes() {
  constexpr int in = C::operand(0).width;
  return std::is_same_v<typename C::template In<0>, BFloat16> &&
         std::is_same_v<typename C::template Out<0>, BFloat16> && in <= most_inputs && in % 2 == 0 &&
         C::node.width % columns == 0 && C::template in_chunk<0>() >= 2 && C::template out_chunk<0>() >= 8;
}

template <class Function = AsItIs, class C>
void run(const C& call, const BFloat16* weight, const BFloat16* bias) {
  const auto x = call.template in<0>();
  const auto y = call.out();
  const auto rows = static_cast<unsigned>(call.rows());
  call.queue().launch("a linear map of few inputs", multiply<C::operand(0).width, Function>,
                      dim3((rows + block_rows - 1) / block_rows, C::node.width / columns), dim3(32 * warps), 0, x.data,
                      x.stride, weight, bias, y.data, y.stride, rows);
}

}  // namespace mad::cuda::few_inputs
