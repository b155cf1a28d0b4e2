// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/mamba.hpp>

void add_mamba(mad::cli::LayerRegistry& registry) {
  registry.add<mad::Mamba>("state 4, convolution 4, inner width 2 D, time steps of rank D / 16");
}
