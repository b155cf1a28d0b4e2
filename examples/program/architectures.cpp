// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/models/hybrids.hpp>

void add_architectures(mad::cli::LayerRegistry& registry) {
  for (const mad::NamedArchitecture& named : mad::named_architectures)
    registry.add_architecture(std::string(named.name), {named.layers.begin(), named.layers.end()});
}
