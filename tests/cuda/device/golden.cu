// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// All in one file: the models share most of their layers.
#include "golden.hpp"

#include "device_model.cuh"

namespace mad::testing {

template std::unique_ptr<DeviceModel> make_device_model_of<golden::Hybrid>(Precision, const ModelOptions&,
                                                                           std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::HybridRms>(Precision, const ModelOptions&,
                                                                              std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::TwoMambas>(Precision, const ModelOptions&,
                                                                              std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::Experts>(Precision, const ModelOptions&,
                                                                            std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::Rwkv6>(Precision, const ModelOptions&,
                                                                          std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::Positioned>(Precision, const ModelOptions&,
                                                                               std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::AttentionEncoder>(Precision, const ModelOptions&,
                                                                                     std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::WiderAttentionEncoder>(Precision,
                                                                                          const ModelOptions&,
                                                                                          std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::HyenaEncoder>(Precision, const ModelOptions&,
                                                                                 std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::HyenaEncoderRms>(Precision, const ModelOptions&,
                                                                                    std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::TracedAttention>(Precision, const ModelOptions&,
                                                                                    std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::TracedHyenaMamba>(Precision, const ModelOptions&,
                                                                                     std::uint64_t);
template std::unique_ptr<DeviceModel> make_device_model_of<golden::TracedExperts>(Precision, const ModelOptions&,
                                                                                  std::uint64_t);

}  // namespace mad::testing
