// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Which GPU is used, and one clear sentence where there is none.
#pragma once

#include <mad/cuda/device/error.hpp>

namespace mad::cuda {

/// A GPU that a model lives on. A value: copies mean the same GPU.
struct Device {
  int index = 0;

  /// GPUs that this process can use; 0 where there is none or no driver.
  static int count() {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    cudaGetLastError();
    return 0;
  }

  /// GPU number \p index. \throws UsageError if it cannot be used, with the reason.
  static Device open(int index = 0) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorInsufficientDriver) {
      int driver = 0;
      int runtime = 0;
      cudaDriverGetVersion(&driver);
      cudaRuntimeGetVersion(&runtime);
      cudaGetLastError();
      throw UsageError(driver == 0
                           ? std::string("device cuda: no NVIDIA driver is installed; use the device cpu")
                           : "device cuda: the NVIDIA driver knows CUDA " + version(driver) + ", this program needs " +
                                 version(runtime) + "; update the driver or use the device cpu");
    }
    if (status != cudaSuccess || count == 0) {
      cudaGetLastError();
      throw UsageError("device cuda: this machine shows no NVIDIA GPU; use the device cpu");
    }
    if (index < 0 || index >= count)
      throw UsageError("device cuda:" + std::to_string(index) + " does not exist; there are " + std::to_string(count) +
                       ", counted from 0");
    const Device device{index};
    device.use();
    return device;
  }

  /// Makes it the calling thread's current device.
  void use() const { check(cudaSetDevice(index), "select device " + std::to_string(index)); }

  std::string name() const {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index), "read the properties of device " + std::to_string(index));
    return properties.name;
  }

  int multiprocessors() const {
    int count = 0;
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index), "count the multiprocessors");
    return count;
  }

private:
  static std::string version(int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  }
};

}  // namespace mad::cuda
