// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products of two maps shared by heads on the tensor cores, for heads of 8, 16, 24 or 32 channels in bfloat16.
///
/// A warp takes 16 items at a time, the rows of all its products. Nothing but x, dy and the results passes through
/// memory: sums of one product are the left factor of the next as the lanes hold them, or their transpose is.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/head_product/maps.cuh>

#include <algorithm>
#include <cstdint>

namespace mad::cuda::head_product {

/// 16 items of `Width` channels as they lie in memory: lane l has items l / 4 and l / 4 + 8, of every eight channels
/// 2 (l mod 4) and the next, as in the factors and sums of a product. Two channels are one word.
template <int Heads, int Width>
struct Items {
  std::uint32_t pair[Width / 8][2];

  /// Zeros behind the last item. Reads without a branch, so that all is on its way at once.
  __device__ void load(const BFloat16* from, unsigned stride, unsigned first, unsigned items) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const unsigned item = own(first, half);
      const BFloat16* row = from + begin_of<Heads, Width>(min(item, items - 1), stride) + column();
#pragma unroll
      for (int k = 0; k < Width / 8; ++k) {
        const std::uint32_t word = *reinterpret_cast<const std::uint32_t*>(row + 8 * k);
        pair[k][half] = item < items ? word : 0;
      }
    }
  }
  static __device__ void store(const tensor::Sums (&sums)[Width / 8], BFloat16* to, unsigned stride, unsigned first,
                               unsigned items) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const unsigned item = own(first, half);
      if (item >= items) continue;
      BFloat16* row = to + begin_of<Heads, Width>(item, stride) + column();
#pragma unroll
      for (int k = 0; k < Width / 8; ++k)
        *reinterpret_cast<std::uint32_t*>(row + 8 * k) =
            tensor::pack(sums[k].value[2 * half], sums[k].value[2 * half + 1]);
    }
  }

  /// Eight channels as a left factor.
  __device__ tensor::Left<8> left(int k) const { return {{pair[k][0], pair[k][1]}}; }
  /// Eight channels as a right factor: sums over items.
  __device__ tensor::Right<16> right(int k) const {
    return {{tensor::transposed(pair[k][0]), tensor::transposed(pair[k][1])}};
  }
  /// Channel i (0 or 1) of a pair.
  __device__ float value(int k, int half, int i) const {
    return __uint_as_float(i == 0 ? pair[k][half] << 16 : pair[k][half] & 0xffff0000u);
  }

private:
  static __device__ unsigned own(unsigned first, int half) { return first + threadIdx.x % 32 / 4 + 8 * half; }
  static __device__ unsigned column() { return threadIdx.x % 4 * 2; }
};

/// Both maps as the lanes of a warp hold them.
template <int In, int Out>
struct Factors {
  tensor::Right<8> weight[2][Out / 8][In / 8];
  float bias[2][Out / 8][2];

  __device__ explicit Factors(const Maps& maps) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int j = 0; j < Out / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) bias[m][j][i] = maps.bias[m][8 * j + 2 * (lane % 4) + i];
        const float* row = maps.weight[m] + (8 * j + lane / 4) * In + 2 * (lane % 4);
#pragma unroll
        for (int k = 0; k < In / 8; ++k) weight[m][j][k].part[0] = tensor::pack(row[8 * k], row[8 * k + 1]);
      }
  }

  /// x W^T + b of map m, outputs [8 j, 8 j + 8).
  template <class X>
  __device__ tensor::Sums apply(int m, int j, const X& x) const {
    tensor::Sums sums{{bias[m][j][0], bias[m][j][1], bias[m][j][0], bias[m][j][1]}};
#pragma unroll
    for (int k = 0; k < In / 8; ++k) tensor::multiply_add(sums, x.left(k), weight[m][j][k]);
    return sums;
  }
};

/// Sets of 16 items that a warp reads at once.
template <int In>
inline constexpr int forward_at_once = std::max(1, 32 / In);
inline constexpr int forward_threads = 256;
template <int In>
inline constexpr int forward_items = forward_threads / 32 * 16 * forward_at_once<In>;  ///< of a block

template <int Heads, int In, int Out>
__global__ void __launch_bounds__(forward_threads) forward_tensor(const BFloat16* x, unsigned x_stride, const Maps maps,
                                                                  BFloat16* y, unsigned y_stride, unsigned items) {
  constexpr int at_once = forward_at_once<In>;
  const unsigned first = blockIdx.x * forward_items<In> + threadIdx.x / 32 * 16 * at_once;
  Items<Heads, In> input[at_once];
#pragma unroll
  for (int s = 0; s < at_once; ++s) input[s].load(x, x_stride, first + 16 * s, items);
  const Factors<In, Out> factors(maps);
#pragma unroll
  for (int s = 0; s < at_once; ++s) {
    tensor::Sums product[Out / 8];
#pragma unroll
    for (int j = 0; j < Out / 8; ++j) {
      const tensor::Sums a = factors.apply(0, j, input[s]);
      const tensor::Sums c = factors.apply(1, j, input[s]);
#pragma unroll
      for (int i = 0; i < 4; ++i) product[j].value[i] = a.value[i] * c.value[i];
    }
    Items<Heads, Out>::store(product, y, y_stride, first + 16 * s, items);
  }
}

/// How the backward pass is spread. Sums over items stay in registers; those of all warps of a block meet in shared
/// memory in the end.
template <int In, int Out>
struct BackwardTiles {
  static constexpr int at_once = std::max(1, 512 / (In * Out));  ///< sets of 16 items; registers allow for no more
  static constexpr int threads = In * Out > 256 ? 128 : 256;
  static constexpr int warps = threads / 32;
  static constexpr int items = warps * 16 * at_once;  ///< of a block at a time
};

/// dx, and the block's sums for the maps' gradients to partial[block].
template <int Heads, int In, int Out>
__global__ void __launch_bounds__(BackwardTiles<In, Out>::threads, 2)
    backward_tensor(const BFloat16* dy, unsigned dy_stride, const BFloat16* x, unsigned x_stride, const Maps maps,
                    BFloat16* dx, unsigned dx_stride, float* partial, unsigned items) {
  using G = Gradients<In, Out>;
  using Tiles = BackwardTiles<In, Out>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Items<Heads, In> input[Tiles::at_once];
  Items<Heads, Out> gradient[Tiles::at_once];
  const auto own = [&](unsigned first, int s) {
    return first + static_cast<unsigned>(16 * (warp * Tiles::at_once + s));
  };
  const auto read = [&](unsigned first) {
#pragma unroll
    for (int s = 0; s < Tiles::at_once; ++s) {
      input[s].load(x, x_stride, own(first, s), items);
      gradient[s].load(dy, dy_stride, own(first, s), items);
    }
  };
  unsigned first = blockIdx.x * Tiles::items;
  read(first);  // before the maps, so that both are on their way at once
  const Factors<In, Out> factors(maps);
  tensor::Right<16> both[Out / 8][In / 8];  // eight rows of W1 and, below them, the same of W2
#pragma unroll
  for (int j = 0; j < Out / 8; ++j)
#pragma unroll
    for (int n = 0; n < In / 8; ++n)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float* w = maps.weight[m] + (8 * j + 2 * (lane % 4)) * In + 8 * n + lane / 4;
        both[j][n].part[m] = tensor::pack(w[0], w[In]);
      }
  tensor::Sums d_weight[Out / 8][In / 8];  // eight rows of dW1 and, below them, the same of dW2
  float d_bias[2][Out / 8][2]{};
  while (true) {
#pragma unroll
    for (int s = 0; s < Tiles::at_once; ++s) {
      tensor::Right<16> over_items[In / 8];
#pragma unroll
      for (int n = 0; n < In / 8; ++n) over_items[n] = input[s].right(n);
      tensor::Sums to_x[In / 8];
#pragma unroll
      for (int j = 0; j < Out / 8; ++j) {
        tensor::Sums d_second = factors.apply(0, j, input[s]);
        tensor::Sums d_first = factors.apply(1, j, input[s]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float g = gradient[s].value(j, i / 2, i % 2);
          d_first.value[i] *= g;
          d_second.value[i] *= g;
          d_bias[0][j][i % 2] += d_first.value[i];
          d_bias[1][j][i % 2] += d_second.value[i];
        }
        const tensor::Left<16> of_items = tensor::as_left(d_first, d_second);
        const tensor::Left<16> of_outputs = tensor::transposed(of_items);
#pragma unroll
        for (int n = 0; n < In / 8; ++n) {
          tensor::multiply_add(to_x[n], of_items, both[j][n]);
          tensor::multiply_add(d_weight[j][n], of_outputs, over_items[n]);
        }
      }
      Items<Heads, In>::store(to_x, dx, dx_stride, own(first, s), items);
    }
    first += gridDim.x * Tiles::items;
    if (first >= items) break;
    read(first);
  }
  __shared__ float sums[Tiles::warps * G::all];
  float* of_warp = sums + warp * G::all;
#pragma unroll
  for (int j = 0; j < Out / 8; ++j)
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int n = 0; n < In / 8; ++n)
          of_warp[G::weight(m, 8 * j + lane / 4, 8 * n + 2 * (lane % 4) + i)] = d_weight[j][n].value[2 * m + i];
        float sum = d_bias[m][j][i];
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
        if (lane < 4) of_warp[G::bias(m, 8 * j + 2 * lane + i)] = sum;
      }
    }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < G::all; c += Tiles::threads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < Tiles::warps; ++w) sum += sums[w * G::all + c];
    partial[std::size_t{blockIdx.x} * G::all + c] = sum;
  }
}

}  // namespace mad::cuda::head_product
