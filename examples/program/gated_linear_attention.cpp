// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/gated_linear_attention.hpp>

void add_gated_linear_attention(mad::cli::LayerRegistry& registry) {
  registry.add<mad::SingleHeadGLA>("one head, a learned decay per key channel");
  registry.add<mad::GLA>("heads of width 16, a learned decay per key channel");
}
