// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Logits of few classes, their loss (cross_entropy.cuh) and the gradient of what they are made of, in one kernel:
///
///     logits = x W^T + b,    d_logits = (softmax(logits) - target) / counted,    dx = d_logits W
///
/// A warp has 16 rows in registers; what three kernels would write and read again between them stays there.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/cross_entropy.cuh>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mad::cuda {

/// The output head's operands, all rows behind each other.
struct OutputHead {
  const BFloat16* x;       ///< (rows, width)
  const BFloat16* weight;  ///< (classes, width)
  const float* bias;       ///< (classes)
  float* logits;           ///< (rows, classes); null: not wanted
  BFloat16* dx;            ///< (rows, width); null: not wanted, and then no gradient of the logits either
};

namespace output_head_detail {

inline constexpr int threads = 128;
inline constexpr int rows_per_warp = 16;
inline constexpr int rows_per_block = threads / 32 * rows_per_warp;
inline constexpr int most_tiles = 4;  ///< of 16 classes
inline constexpr int widest = 256;

/// Numbers from a row to the next in shared memory: eight of them lie in different banks.
__host__ __device__ constexpr int stride_of(int width) { return width + 8; }
inline std::size_t shared_bytes(int classes, int width) {
  return static_cast<std::size_t>((classes + rows_per_block) * stride_of(width)) * sizeof(BFloat16);
}

/// Copies rows from memory to shared memory by so many threads; rows from `end` on are zeros.
__device__ inline void fetch_rows(BFloat16* to, const BFloat16* from, int rows, int end, int width, int thread,
                                  int threads) {
  const int chunks = width / 8;
  for (int i = thread; i < rows * chunks; i += threads) {
    const int r = i / chunks;
    const int c = i % chunks * 8;
    const bool here = r < end;
    copy_or_clear_async(to + r * stride_of(width) + c, from + static_cast<std::size_t>(here ? r : 0) * width + c, here);
  }
}

/// The largest logit of a row and its class, the first one if several are as large; lanes of a row are four neighbours.
struct Largest {
  float value = -INFINITY;
  int place = 0;

  __device__ void take(float other, int other_place) {
    if (other > value || (other == value && other_place < place)) {
      value = other;
      place = other_place;
    }
  }
  __device__ void take_from_lanes() {
#pragma unroll
    for (int offset = 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, value, offset);
      const int other_place = __shfl_xor_sync(0xffffffffu, place, offset);
      take(other, other_place);
    }
  }
};

/// Grid: blocks of rows. `Tiles` of 16 classes.
template <int Tiles>
__global__ void __launch_bounds__(threads)
    kernel(const __grid_constant__ OutputHead head, const __grid_constant__ CrossEntropy<BFloat16> n, unsigned all_rows,
           int width) {
  constexpr int classes = 16 * Tiles;
  extern __shared__ float4 dynamic_memory[];
  __shared__ int counts[3 * classes];
  __shared__ double losses[threads / 32];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp = thread / 32;
  const int stride = stride_of(width);
  BFloat16* weight = reinterpret_cast<BFloat16*>(dynamic_memory);
  BFloat16* rows = weight + (classes + warp * rows_per_warp) * stride;
  const unsigned first = blockIdx.x * rows_per_block + static_cast<unsigned>(warp * rows_per_warp);
  const int here = first < all_rows ? static_cast<int>(min(all_rows - first, unsigned{rows_per_warp})) : 0;
  fetch_rows(rows, head.x + std::size_t{first} * width * (here > 0), rows_per_warp, here, width, lane, 32);
  fetch_rows(weight, head.weight, classes, classes, width, thread, threads);
  for (int i = thread; i < 3 * classes; i += threads) counts[i] = 0;
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();

  tensor::Sums sums[2 * Tiles];
  for (int k = 0; k < width; k += 16) {
    tensor::Left<16> left;
    tensor::load_matrices<false>(rows + lane % 16 * stride + k + lane / 16 * 8, left.part);
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      std::uint32_t matrix[4];
      tensor::load_matrices<false>(weight + (t * 16 + lane / 16 * 8 + lane % 8) * stride + k + lane / 8 % 2 * 8,
                                   matrix);
      tensor::multiply_add(sums[2 * t], left, tensor::Right<16>{{matrix[0], matrix[1]}});
      tensor::multiply_add(sums[2 * t + 1], left, tensor::Right<16>{{matrix[2], matrix[3]}});
    }
  }

  const int counted = n.tally->counted;
  const float factor = counted > 0 ? 1.0f / static_cast<float>(counted) : 0.0f;
  const auto class_of = [&](int t, int i) { return t * 8 + lane % 4 * 2 + i; };
  std::uint32_t gradient[2 * Tiles][2];
  double loss = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own = lane / 4 + 8 * half;
    const bool is_here = own < here;
    const std::size_t r = first + static_cast<unsigned>(is_here ? own : 0);
    const int target = is_here ? n.targets[r] : ignored_target;
    Largest largest;
    float of_target = 0;
#pragma unroll
    for (int t = 0; t < 2 * Tiles; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& logit = sums[t].value[2 * half + i];
        logit += head.bias[class_of(t, i)];
        largest.take(logit, class_of(t, i));
        if (class_of(t, i) == target) of_target = logit;
      }
      if (head.logits != nullptr && is_here)
        store(head.logits + r * classes + class_of(t, 0), reinterpret_cast<const float(&)[2]>(sums[t].value[2 * half]));
    }
    largest.take_from_lanes();
    of_target = lane_sum<4>(of_target);
    float sum = 0;
#pragma unroll
    for (int t = 0; t < 2 * Tiles; ++t)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& power = sums[t].value[2 * half + i];
        power = expf(power - largest.value);
        sum += power;
      }
    sum = lane_sum<4>(sum);
    const bool counts_here = target != ignored_target;
    const float share = counts_here ? factor / sum : 0.0f;
#pragma unroll
    for (int t = 0; t < 2 * Tiles; ++t) {
      float d[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        d[i] = sums[t].value[2 * half + i] * share - (counts_here && class_of(t, i) == target ? factor : 0.0f);
      gradient[t][half] = tensor::pack(d[0], d[1]);
      if (n.d_logits != nullptr && is_here)
        *reinterpret_cast<std::uint32_t*>(n.d_logits + r * classes + class_of(t, 0)) = gradient[t][half];
    }
    if (lane % 4 != 0 || !is_here) continue;
    float negative_log_likelihood = 0;
    if (counts_here) {
      negative_log_likelihood = logf(sum) + (largest.value - of_target);
      loss += negative_log_likelihood;
      atomicAdd(counts + classes + largest.place, 1);
      atomicAdd(counts + 2 * classes + target, 1);
      if (largest.place == target) atomicAdd(counts + target, 1);
    }
    if (n.negative_log_likelihood != nullptr) n.negative_log_likelihood[r] = negative_log_likelihood;
    if (n.prediction != nullptr) n.prediction[r] = largest.place;
  }
  loss = lane_sum<32>(loss);
  if (lane == 0) losses[warp] = loss;

  if (head.dx != nullptr) {
    __syncwarp();  // the warp's rows have been read; their place takes the results
    for (int c = 0; c < width; c += 16) {
      tensor::Sums dx[2];
#pragma unroll
      for (int t = 0; t < Tiles; ++t) {
        const tensor::Left<16> left{
            {gradient[2 * t][0], gradient[2 * t][1], gradient[2 * t + 1][0], gradient[2 * t + 1][1]}};
        std::uint32_t matrix[4];
        tensor::load_matrices<true>(weight + (t * 16 + lane % 16) * stride + c + lane / 16 * 8, matrix);
        tensor::multiply_add(dx[0], left, tensor::Right<16>{{matrix[0], matrix[1]}});
        tensor::multiply_add(dx[1], left, tensor::Right<16>{{matrix[2], matrix[3]}});
      }
#pragma unroll
      for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          *reinterpret_cast<std::uint32_t*>(rows + (lane / 4 + 8 * half) * stride + c + t * 8 + lane % 4 * 2) =
              tensor::pack(dx[t].value[2 * half], dx[t].value[2 * half + 1]);
    }
    __syncwarp();
    const int chunks = width / 8;
    for (int i = lane; i < here * chunks; i += 32)
      *reinterpret_cast<uint4*>(head.dx + (first + static_cast<std::size_t>(i / chunks)) * width + i % chunks * 8) =
          *reinterpret_cast<const uint4*>(rows + i / chunks * stride + i % chunks * 8);
  }

  __syncthreads();
  for (int i = thread; i < 3 * classes; i += threads)
    if (counts[i] != 0) atomicAdd(n.hits + i, counts[i]);
  if (thread != 0) return;
  double total = 0;
#pragma unroll
  for (double of_warp : losses) total += of_warp;
  n.partial[blockIdx.x] = total;
}

}  // namespace output_head_detail

/// True where `output_head` takes it: up to 64 classes, a multiple of 16, of rows of up to 256 numbers, a multiple of
/// 16, that begin at multiples of 16 bytes.
template <class T>
bool takes_output_head(Index width, Index classes, const T* x, const T* weight) {
  namespace d = output_head_detail;
  const auto aligned = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  return std::is_same_v<T, BFloat16> && classes % 16 == 0 && classes <= 16 * d::most_tiles && width % 16 == 0 &&
         width <= d::widest && aligned(x) && aligned(weight);
}

/// Logits, losses and, where they are wanted, gradients of `rows` rows; with the last ones of a batch its metrics.
/// Does what a product, `cross_entropy` and another product do, which see it for further words.
inline void output_head(Queue& queue, const OutputHead& head, CrossEntropy<BFloat16> n, Index rows, Index width,
                        Index classes) {
  namespace d = output_head_detail;
  const Index blocks = (rows + d::rows_per_block - 1) / d::rows_per_block;
  n.partial = queue.take_for_aside<double>(blocks);
  constexpr auto kernels = std::array{d::kernel<1>, d::kernel<2>, d::kernel<3>, d::kernel<4>};
  static_assert(kernels.size() == d::most_tiles);
  queue.launch("the output head", kernels[static_cast<std::size_t>(classes / 16 - 1)],
               dim3(static_cast<unsigned>(blocks)), dim3(d::threads),
               d::shared_bytes(static_cast<int>(classes), static_cast<int>(width)), head, n, rows, width);
  add_up_losses(queue, n, blocks, classes);
}

}  // namespace mad::cuda
