// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Every call of the CUDA runtime and of cuBLASLt goes through `check`: what failed, and what was being done.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/shape.hpp>
#include <mad/cuda/device/device_lock.hpp>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

namespace mad::cuda {

/// \throws Error unless \p status is success. \p doing completes the sentence "failed to ...".
inline void check(cudaError_t status, std::string_view doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported must not be found again by a later call
  throw Error("CUDA: failed to " + std::string(doing) + ": " + cudaGetErrorString(status) + " (" +
              cudaGetErrorName(status) + ")");
}

/// The same for cuBLASLt.
inline void check(cublasStatus_t status, std::string_view doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error("cuBLASLt: failed to " + std::string(doing) + ": " + cublasLtGetStatusString(status));
}

namespace error_detail {

inline std::string mebibytes(std::size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace error_detail

/// Memory of the current device. \p what names it in messages. \throws Error that says how much was asked and how much
/// is free.
inline void* allocate(std::size_t bytes, std::string_view what) {
  const auto device = hold_device();
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&free, &total);
    throw Error(
        "CUDA: out of device memory: " + std::string(what) + " needs " + error_detail::mebibytes(bytes) +
        ", of the device's " + error_detail::mebibytes(total) + " only " + error_detail::mebibytes(free) +
        " are free. Use a smaller batch, micro-batches (mad train --micro-batch), or train fewer models at a time.");
  }
  check(status, "allocate " + error_detail::mebibytes(bytes) + " for " + std::string(what));
  return memory;
}

}  // namespace mad::cuda
