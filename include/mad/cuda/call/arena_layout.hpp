// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Where parameters lie on the device: in the order of the host's arena, but each at a multiple of 16 bytes or more, so
/// that matrix products can read them with whole accesses.
#pragma once

#include <mad/models/parameter_layout.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace mad::cuda {

/// Every parameter begins at a multiple of so many elements.
inline constexpr Index parameter_alignment = 64;

constexpr Index aligned_size(Index elements) {
  return (elements + parameter_alignment - 1) / parameter_alignment * parameter_alignment;
}

/// Offset of a layer's parameter number `index` in the layer's part of the device's arena.
constexpr Index aligned_offset(std::span<const Parameter> parameters, int index, Index max_length) {
  Index offset = 0;
  for (int i = 0; i < index; ++i)
    if (!parameters[static_cast<std::size_t>(i)].is_constant)
      offset += aligned_size(parameters[static_cast<std::size_t>(i)].count(max_length));
  return offset;
}

/// The host's layout with the device's offsets.
inline ParameterLayout align(const ParameterLayout& host) {
  ParameterLayout device = host;
  device.size = 0;
  for (ParameterInfo& info : device.infos) {
    info.offset = device.size;
    device.size += aligned_size(info.size);
  }
  // Whatever began with a parameter begins with the same one now.
  const auto moved = [&](Index offset) {
    const auto at = std::ranges::find(host.infos, offset, &ParameterInfo::offset);
    return at == host.infos.end() ? device.size
                                  : device.infos[static_cast<std::size_t>(at - host.infos.begin())].offset;
  };
  for (Index* offset : {&device.token_embeds, &device.position_embeds, &device.cls_token, &device.head_weight,
                        &device.head_bias, &device.head_norm.parameters, &device.decoder.parameters})
    if (*offset >= 0) *offset = moved(*offset);
  for (ParameterLayout::Part& part : device.blocks) part.parameters = moved(part.parameters);
  return device;
}

/// Numbers in the host's order, in the device's; 0 between the parameters.
inline std::vector<float> spread_out(std::span<const float> values, const ParameterLayout& host,
                                     const ParameterLayout& device) {
  std::vector<float> spread(static_cast<std::size_t>(device.size), 0.0f);
  for (std::size_t i = 0; i < host.infos.size(); ++i)
    std::copy_n(values.begin() + host.infos[i].offset, host.infos[i].size, spread.begin() + device.infos[i].offset);
  return spread;
}

/// The way back.
inline std::vector<float> pack_together(std::span<const float> values, const ParameterLayout& host,
                                        const ParameterLayout& device) {
  std::vector<float> packed(static_cast<std::size_t>(host.size));
  for (std::size_t i = 0; i < host.infos.size(); ++i)
    std::copy_n(values.begin() + device.infos[i].offset, host.infos[i].size, packed.begin() + host.infos[i].offset);
  return packed;
}

}  // namespace mad::cuda
