// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/hgrn2.hpp>
#include <mad/layers/mamba2.hpp>
#include <mad/layers/retnet.hpp>

void add_gated_recurrences(mad::cli::LayerRegistry& registry) {
  registry.add<mad::RetNet>("retention: a fixed decay per head");
  registry.add<mad::HGRN2>("outer-product states, forget gates with their complement as keys");
  registry.add<mad::Mamba2>("state 8, heads of width 64, convolution 4, inner width 2 D");
}
