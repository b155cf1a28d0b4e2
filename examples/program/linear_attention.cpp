// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/linear_attention.hpp>

void add_linear_attention(mad::cli::LayerRegistry& registry) {
  registry.add<mad::SingleHeadLinearAttn>("one head; feature map: the product of two learned maps");
  registry.add<mad::LinearAttn>("heads of width 8; feature map: the product of two learned maps");
}
