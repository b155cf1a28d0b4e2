// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The beginning of a step: the rows of the batch are picked out of the data on the device.
#pragma once

#include <mad/cuda/kernels/cross_entropy.cuh>
#include <mad/cuda/kernels/embedding.cuh>
#include <mad/cuda/kernels/optimizer.cuh>

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

namespace batch_detail {

inline constexpr int threads = 256;

/// Block b copies row b of the batch and counts its targets; block 0 makes the optimiser's factors too.
inline __device__ void copy_row(const int* from, int* to, int length) {
  for (int i = static_cast<int>(threadIdx.x); i < length; i += threads) to[i] = from[i];
}

template <bool Train>
__global__ void __launch_bounds__(threads)
    select(DeviceExamples data, DeviceBatch batch, int batch_size, int length, int target_length,
           const Progress* progress, OptimizerSettings settings, const Segment* segments, const double* rates,
           int segment_count, StepFactors* factors) {
  const std::size_t index = static_cast<std::size_t>(progress->position) * batch_size + blockIdx.x;
  const std::size_t row = data.order != nullptr ? static_cast<std::size_t>(data.order[index]) : index;
  int* inputs = batch.inputs + std::size_t{blockIdx.x} * batch.input_stride;
  copy_row(data.inputs + row * length, inputs, length);
  for (int i = length + static_cast<int>(threadIdx.x); i < batch.input_stride; i += threads) inputs[i] = class_token;
  const int* targets = data.targets + row * target_length;
  copy_row(targets, batch.targets + std::size_t{blockIdx.x} * target_length, target_length);
  int counted = 0;
  for (int i = static_cast<int>(threadIdx.x); i < target_length; i += threads)
    counted += targets[i] != ignored_target ? 1 : 0;
  counted = __reduce_add_sync(0xffffffffu, counted);
  if (threadIdx.x % 32 == 0 && counted > 0) atomicAdd(&batch.tally->counted, counted);  // exact in any order
  if (Train && blockIdx.x == 0)
    optimizer_detail::make_factors(settings, segments, rates, segment_count, *progress, factors);
}

}  // namespace batch_detail

}  // namespace mad::cuda
