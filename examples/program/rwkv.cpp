// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/rwkv5.hpp>
#include <mad/layers/rwkv6.hpp>

void add_rwkv(mad::cli::LayerRegistry& registry) {
  registry.add<mad::RWKV5TimeMixer>("heads of width 16, a learned constant decay");
  registry.add<mad::RWKV5ChannelMixer>("inner width 4 D, squared ReLU, gated");
  registry.add<mad::RWKV6TimeMixer>("heads of width 16, decay and mixing depend on the token");
  registry.add<mad::RWKV6ChannelMixer>("inner width 4 D, squared ReLU, gated");
}
