// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "device_model.cuh"
#include "nets.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<HyenaNet, 64, Norm::layer_norm>(Precision, const ModelOptions&,
                                                                                        std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<TiledHyenaNet, 64, Norm::layer_norm>(Precision,
                                                                                             const ModelOptions&,
                                                                                             std::uint64_t);

}  // namespace mad::testing
