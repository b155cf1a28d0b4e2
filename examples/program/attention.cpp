// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/attention.hpp>

void add_attention(mad::cli::LayerRegistry& registry) {
  registry.add<mad::SingleHeadAttn>("one head of the whole width, rotary, causal, biases");
  registry.add<mad::Attn>("heads of width 8, rotary, causal, biases");
}
