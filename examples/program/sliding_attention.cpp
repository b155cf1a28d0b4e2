// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/attention.hpp>

void add_sliding_attention(mad::cli::LayerRegistry& registry) {
  registry.add<mad::SingleHeadSlidingAttn>("as attention, over the 32 keys before the query and its own");
  registry.add<mad::SlidingAttn>("as mh-attention, over the 32 keys before the query and its own");
}
