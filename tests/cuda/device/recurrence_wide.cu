// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/kernels/linear_recurrence.cuh>

#include "device_model.cuh"
#include "recurrence.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<WideLinearAlone, 128, Norm::layer_norm>(Precision,
                                                                                                const ModelOptions&,
                                                                                                std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<WideGatedAlone, 128, Norm::layer_norm>(Precision,
                                                                                               const ModelOptions&,
                                                                                               std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<WideRecurrencesAlone, 64, Norm::layer_norm>(Precision,
                                                                                                    const ModelOptions&,
                                                                                                    std::uint64_t);

}  // namespace mad::testing
