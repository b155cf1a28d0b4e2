// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "channel_mixer.hpp"
#include "device_model.cuh"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<GatedNet, 128, Norm::layer_norm>(Precision, const ModelOptions&,
                                                                                         std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<GatedNet, 48, Norm::rms_norm>(Precision, const ModelOptions&,
                                                                                      std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<RoutedMixersNet, 112, Norm::layer_norm>(Precision,
                                                                                                const ModelOptions&,
                                                                                                std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<ShiftedNet, 128, Norm::layer_norm>(Precision,
                                                                                           const ModelOptions&,
                                                                                           std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<NarrowInsidesNet, 128, Norm::rms_norm>(Precision,
                                                                                               const ModelOptions&,
                                                                                               std::uint64_t);

}  // namespace mad::testing
