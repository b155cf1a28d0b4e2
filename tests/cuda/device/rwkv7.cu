// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/kernels/diagonal_plus_rank_one.cuh>
#include <mad/cuda/kernels/token_shift.cuh>

#include "device_model.cuh"
#include "rwkv7.hpp"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model<RWKV7Nets, 64, Norm::layer_norm>(Precision, const ModelOptions&,
                                                                                         std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<WideRWKV7Net, 64, Norm::layer_norm>(Precision,
                                                                                            const ModelOptions&,
                                                                                            std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model<OddRWKV7Net, 36, Norm::rms_norm>(Precision, const ModelOptions&,
                                                                                         std::uint64_t);

}  // namespace mad::testing
