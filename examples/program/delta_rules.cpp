// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/delta_net.hpp>
#include <mad/layers/gated_delta_net.hpp>

void add_delta_rules(mad::cli::LayerRegistry& registry) {
  registry.add<mad::DeltaNet>("heads of width 16, convolution 4");
  registry.add<mad::GatedDeltaNet>("heads of width 16, convolution 4, a decay per head");
}
