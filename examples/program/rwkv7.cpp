// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/rwkv7.hpp>

void add_rwkv7(mad::cli::LayerRegistry& registry) {
  registry.add<mad::RWKV7TimeMixer>("heads of width 16, generalised delta rule");
  registry.add<mad::RWKV7ChannelMixer>("inner width 4 D, squared ReLU");
}
