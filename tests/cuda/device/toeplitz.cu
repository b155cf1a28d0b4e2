// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/kernels/toeplitz_attention.cuh>

#include "device_model.cuh"
#include "toeplitz.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<ToeplitzNet, 64, Norm::layer_norm>(Precision,
                                                                                           const ModelOptions&,
                                                                                           std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<NarrowToeplitzNet, 64, Norm::layer_norm>(Precision,
                                                                                                 const ModelOptions&,
                                                                                                 std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<OddToeplitzNet, 60, Norm::rms_norm>(Precision,
                                                                                            const ModelOptions&,
                                                                                            std::uint64_t);

}  // namespace mad::testing
