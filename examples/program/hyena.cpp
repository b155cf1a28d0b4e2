// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/hyena.hpp>

void add_hyena(mad::cli::LayerRegistry& registry) {
  registry.add<mad::Hyena>("order 2, inner width 4 D, 4 projection groups, short filter 3, filter order 4");
}
