// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The beginning of a step: the rows of the batch are picked out of the data on the device, by the embedding where it
/// takes the whole batch at once.
#pragma once

#include <mad/cuda/kernels/cross_entropy.cuh>
#include <mad/cuda/kernels/embedding.cuh>
#include <mad/cuda/kernels/optimizer.cuh>

#include <cstddef>

namespace mad::cuda {

/// Examples on the device: inputs and targets are (rows, length) and (rows, target_length).
struct DeviceExamples {
  const int* inputs = nullptr;
  const int* targets = nullptr;
  const int* order = nullptr;  ///< which row comes when; null: as they lie
};

/// The batch as the model reads it.
struct DeviceBatch {
  int* inputs = nullptr;  ///< (rows, input_stride): behind the tokens comes the class token, where there is one
  Index input_stride = 0;
  int* targets = nullptr;
  Tally* tally = nullptr;
};

/// What a batch is selected by, and what goes along with it: with Train the factors of the optimiser.
template <bool Train>
struct Selection {
  DeviceExamples data;
  DeviceBatch batch;
  int batch_size = 0;
  int sequences = 0;  ///< of this batch
  int length = 0;
  int target_length = 0;
  const Progress* progress = nullptr;
  OptimizerSettings settings{};
  const Segment* segments = nullptr;
  const double* rates = nullptr;
  int segment_count = 0;
  StepFactors* factors = nullptr;

  /// Row \p b of the batch, among the examples.
  __device__ std::size_t row(unsigned b) const {
    const std::size_t index = static_cast<std::size_t>(progress->position) * batch_size + b;
    return data.order != nullptr ? static_cast<std::size_t>(data.order[index]) : index;
  }
  /// Token i of the batch's inputs, which may be written there.
  __device__ int of(unsigned i, bool writes) const {
    const auto stride = static_cast<unsigned>(batch.input_stride);
    const unsigned t = i % stride;
    const int id = t < static_cast<unsigned>(length) ? data.inputs[row(i / stride) * length + t] : class_token;
    if (writes) batch.inputs[i] = id;
    return id;
  }
  /// Copies the targets, counts them and makes the factors, by all threads of a grid together.
  __device__ void begin() const {
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x;
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
    const unsigned threads = blockDim.x * blockDim.y;
    const unsigned count = static_cast<unsigned>(sequences) * static_cast<unsigned>(target_length);
    if (block * threads < count) {
      int counted = 0;
      for (unsigned i = block * threads + thread; i < count; i += gridDim.x * gridDim.y * threads) {
        const int target = data.targets[row(i / target_length) * target_length + i % target_length];
        batch.targets[i] = target;
        counted += target != ignored_target ? 1 : 0;
      }
      counted = __reduce_add_sync(0xffffffffu, counted);
      if (thread % 32 == 0 && counted > 0) atomicAdd(&batch.tally->counted, counted);  // exact in any order
    }
    if (Train && block + 1 == gridDim.x * gridDim.y)
      optimizer_detail::make_factors(settings, segments, rates, segment_count, *progress, factors, thread, threads);
  }
};

namespace batch_detail {

inline constexpr int threads = 256;

/// The selection by itself, where the embedding takes it in parts.
template <bool Train>
__global__ void __launch_bounds__(threads) select(const __grid_constant__ Selection<Train> selection) {
  selection.begin();
  const unsigned count = static_cast<unsigned>(selection.sequences * selection.batch.input_stride);
  const unsigned i = blockIdx.x * threads + threadIdx.x;
  if (i < count) selection.of(i, true);
}

}  // namespace batch_detail

template <bool Train>
void select(Queue& queue, const Selection<Train>& selection) {
  const Index count = selection.sequences * selection.batch.input_stride;
  queue.launch("selecting the batch", batch_detail::select<Train>,
               dim3(static_cast<unsigned>((count + batch_detail::threads - 1) / batch_detail::threads)),
               dim3(batch_detail::threads), 0, selection);
}

}  // namespace mad::cuda
