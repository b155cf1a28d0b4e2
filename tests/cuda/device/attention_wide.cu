// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "attention.hpp"
#include "device_model.cuh"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<GroupedWiderNet, 128, Norm::layer_norm>(Precision,
                                                                                                const ModelOptions&,
                                                                                                std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<UnevenNet, 120, Norm::layer_norm>(Precision,
                                                                                          const ModelOptions&,
                                                                                          std::uint64_t);

}  // namespace mad::testing
