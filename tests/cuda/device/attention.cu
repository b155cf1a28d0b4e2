// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "attention.hpp"
#include "device_model.cuh"
#include "nets.hpp"

namespace mad::testing {

int device_count() { return cuda::Device::count(); }

std::string refusal_of_device(int index) {
  try {
    cuda::Device::open(index);
  } catch (const UsageError& error) {
    return error.what();
  }
  return {};
}

template std::unique_ptr<DeviceModel> make_device_model<MultiHeadNet, 64, Norm::layer_norm>(Precision,
                                                                                            const ModelOptions&,
                                                                                            std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<SlidingNet, 64, Norm::rms_norm>(Precision, const ModelOptions&,
                                                                                        std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<NarrowNet, 64, Norm::layer_norm>(Precision, const ModelOptions&,
                                                                                         std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<WiderNet, 64, Norm::rms_norm>(Precision, const ModelOptions&,
                                                                                      std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<SharpNet, 24, Norm::layer_norm>(Precision, const ModelOptions&,
                                                                                        std::uint64_t);

}  // namespace mad::testing
