// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/kernels/delta_rule.cuh>

#include "delta.hpp"
#include "device_model.cuh"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<DeltaNetAlone, 128, Norm::layer_norm>(Precision,
                                                                                              const ModelOptions&,
                                                                                              std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<GatedDeltaNetAlone, 128, Norm::rms_norm>(Precision,
                                                                                                 const ModelOptions&,
                                                                                                 std::uint64_t);

}  // namespace mad::testing
