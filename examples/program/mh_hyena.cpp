// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/mh_hyena.hpp>

void add_mh_hyena(mad::cli::LayerRegistry& registry) {
  registry.add<mad::MultiHeadHyena>("heads of width 16, 4 projection groups, short filter 3, filter order 2");
}
