// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "device_model.cuh"
#include "rows.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<EvenRowsNet, 128, Norm::layer_norm>(Precision,
                                                                                            const ModelOptions&,
                                                                                            std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<UnevenRowsNet, 42, Norm::rms_norm>(Precision,
                                                                                           const ModelOptions&,
                                                                                           std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<WideRowsNet, 392, Norm::layer_norm>(Precision,
                                                                                            const ModelOptions&,
                                                                                            std::uint64_t);

}  // namespace mad::testing
