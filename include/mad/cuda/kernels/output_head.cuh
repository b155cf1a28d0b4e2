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

/// A warp's rows from shared memory to memory.
__device__ inline void store_rows(BFloat16* to, std::size_t to_stride, const BFloat16* from, int rows, int width) {
  const int chunks = width / 8;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < rows * chunks; i += 32)
    *reinterpret_cast<uint4*>(to + static_cast<std::size_t>(i / chunks) * to_stride + i % chunks * 8) =
        *reinterpret_cast<const uint4*>(from + i / chunks * stride_of(width) + i % chunks * 8);
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

/// What all rows of a block count: how often each class was predicted rightly, predicted and expected.
template <int Classes>
struct Counts {
  int count[3 * Classes];

  __device__ void clear() {
    for (int i = static_cast<int>(threadIdx.x); i < 3 * Classes; i += threads) count[i] = 0;
  }
  __device__ void add_to(int* hits) const {
    for (int i = static_cast<int>(threadIdx.x); i < 3 * Classes; i += threads)
      if (count[i] != 0) atomicAdd(hits + i, count[i]);
  }
};

/// Logits without their biases += 16 summands: columns [k, k + 16) of 16 rows, and of the weight in shared memory.
template <int Tiles>
__device__ void add_products(tensor::Sums (&logits)[2 * Tiles], const tensor::Left<16>& rows, const BFloat16* weight,
                             int stride, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int t = 0; t < Tiles; ++t) {
    std::uint32_t matrix[4];
    tensor::load_matrices<false>(weight + (t * 16 + lane / 16 * 8 + lane % 8) * stride + k + lane / 8 % 2 * 8, matrix);
    tensor::multiply_add(logits[2 * t], rows, tensor::Right<16>{{matrix[0], matrix[1]}});
    tensor::multiply_add(logits[2 * t + 1], rows, tensor::Right<16>{{matrix[2], matrix[3]}});
  }
}

/// The gradient of the logits of 16 rows as the left factor of a product, by 16 classes.
template <int Tiles>
struct LogitGradient {
  std::uint32_t pair[2 * Tiles][2];

  /// The gradient of what the logits are made of, in columns [c, c + 16).
  __device__ void multiply_add(tensor::Sums& first, tensor::Sums& second, const BFloat16* weight, int stride,
                               int c) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      const tensor::Left<16> left{{pair[2 * t][0], pair[2 * t][1], pair[2 * t + 1][0], pair[2 * t + 1][1]}};
      std::uint32_t matrix[4];
      tensor::load_matrices<true>(weight + (t * 16 + lane % 16) * stride + c + lane / 16 * 8, matrix);
      tensor::multiply_add(first, left, tensor::Right<16>{{matrix[0], matrix[1]}});
      tensor::multiply_add(second, left, tensor::Right<16>{{matrix[2], matrix[3]}});
    }
  }
};

/// The targets of a lane's rows, lane / 4 and eight behind it, of 16 of which `here` are there. They come from far
/// away: whoever asks for them early does not wait.
struct Targets {
  int of_row[2];

  __device__ Targets(const int* targets, unsigned first, int here) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int own = static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half;
      of_row[half] = own < here ? targets[first + static_cast<unsigned>(own)] : ignored_target;
    }
  }
};
/// The share of a row that counts in the mean.
__device__ inline float share_of_mean(const Tally& tally) {
  return tally.counted > 0 ? 1.0f / static_cast<float>(tally.counted) : 0.0f;
}

/// Losses of 16 rows, of which `here` are there, from `first` on: `logits` come without their biases, and `factor` is a
/// row's share of the mean. Adds to the lane's share of the loss, and to what the block counts.
template <int Tiles>
__device__ LogitGradient<Tiles> losses_of_rows(const OutputHead& head, const CrossEntropy<BFloat16>& n, float factor,
                                               const Targets& targets, tensor::Sums (&logits)[2 * Tiles],
                                               unsigned first, int here, Counts<16 * Tiles>& counts, double& loss) {
  constexpr int classes = 16 * Tiles;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto class_of = [&](int t, int i) { return t * 8 + lane % 4 * 2 + i; };
  LogitGradient<Tiles> gradient;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own = lane / 4 + 8 * half;
    const bool is_here = own < here;
    const std::size_t r = first + static_cast<unsigned>(is_here ? own : 0);
    const int target = targets.of_row[half];
    Largest largest;
    float of_target = 0;
#pragma unroll
    for (int t = 0; t < 2 * Tiles; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& logit = logits[t].value[2 * half + i];
        logit += head.bias[class_of(t, i)];
        largest.take(logit, class_of(t, i));
        if (class_of(t, i) == target) of_target = logit;
      }
      if (head.logits != nullptr && is_here)
        store(head.logits + r * classes + class_of(t, 0),
              reinterpret_cast<const float(&)[2]>(logits[t].value[2 * half]));
    }
    largest.take_from_lanes();
    of_target = lane_sum<4>(of_target);
    float sum = 0;
#pragma unroll
    for (int t = 0; t < 2 * Tiles; ++t)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& power = logits[t].value[2 * half + i];
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
        d[i] = logits[t].value[2 * half + i] * share - (counts_here && class_of(t, i) == target ? factor : 0.0f);
      gradient.pair[t][half] = tensor::pack(d[0], d[1]);
      if (n.d_logits != nullptr && is_here)
        *reinterpret_cast<std::uint32_t*>(n.d_logits + r * classes + class_of(t, 0)) = gradient.pair[t][half];
    }
    if (lane % 4 != 0 || !is_here) continue;
    float negative_log_likelihood = 0;
    if (counts_here) {
      negative_log_likelihood = logf(sum) + (largest.value - of_target);
      loss += negative_log_likelihood;
      atomicAdd(counts.count + classes + largest.place, 1);
      atomicAdd(counts.count + 2 * classes + target, 1);
      if (largest.place == target) atomicAdd(counts.count + target, 1);
    }
    if (n.negative_log_likelihood != nullptr) n.negative_log_likelihood[r] = negative_log_likelihood;
    if (n.prediction != nullptr) n.prediction[r] = largest.place;
  }
  return gradient;
}

/// Grid: blocks of rows. `Tiles` of 16 classes.
template <int Tiles>
__global__ void __launch_bounds__(threads)
    kernel(const __grid_constant__ OutputHead head, const __grid_constant__ CrossEntropy<BFloat16> n, unsigned all_rows,
           int width) {
  constexpr int classes = 16 * Tiles;
  extern __shared__ float4 dynamic_memory[];
  __shared__ Counts<classes> counts;
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
  counts.clear();
  commit_copies();
  const Targets targets(n.targets, first, here);
  const float factor = share_of_mean(*n.tally);
  wait_for_copies<0>();
  __syncthreads();

  tensor::Sums sums[2 * Tiles];
  for (int k = 0; k < width; k += 16) {
    tensor::Left<16> left;
    tensor::load_matrices<false>(rows + lane % 16 * stride + k + lane / 16 * 8, left.part);
    add_products<Tiles>(sums, left, weight, stride, k);
  }
  double loss = 0;
  const LogitGradient<Tiles> gradient =
      losses_of_rows<Tiles>(head, n, factor, targets, sums, first, here, counts, loss);
  loss = lane_sum<32>(loss);
  if (lane == 0) losses[warp] = loss;

  if (head.dx != nullptr) {
    __syncwarp();  // the warp's rows have been read; their place takes the results
    for (int c = 0; c < width; c += 16) {
      tensor::Sums dx[2];
      gradient.multiply_add(dx[0], dx[1], weight, stride, c);
#pragma unroll
      for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          *reinterpret_cast<std::uint32_t*>(rows + (lane / 4 + 8 * half) * stride + c + t * 8 + lane % 4 * 2) =
              tensor::pack(dx[t].value[2 * half], dx[t].value[2 * half + 1]);
    }
    __syncwarp();
    store_rows(head.dx + std::size_t{first} * width, static_cast<unsigned>(width), rows, here, width);
  }

  __syncthreads();
  counts.add_to(n.hits);
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
