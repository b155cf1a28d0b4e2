// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/kernels/linear_heads.cuh>

#include "device_model.cuh"
#include "experts.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<SharedWeightsNet, 64, Norm::layer_norm>(Precision,
                                                                                                const ModelOptions&,
                                                                                                std::uint64_t);

}  // namespace mad::testing
