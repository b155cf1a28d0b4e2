// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/kernels/linear_heads.cuh>
#include <mad/cuda/kernels/linear_recurrence.cuh>
#include <mad/cuda/kernels/softmax.cuh>

#include "device_model.cuh"
#include "recurrence.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<NormalisedAlone, 64, Norm::layer_norm>(Precision,
                                                                                               const ModelOptions&,
                                                                                               std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<HedgehogAlone, 64, Norm::layer_norm>(Precision,
                                                                                             const ModelOptions&,
                                                                                             std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<GroupedMamba2Alone, 64, Norm::layer_norm>(Precision,
                                                                                                  const ModelOptions&,
                                                                                                  std::uint64_t);

}  // namespace mad::testing
