// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

void add_backbones(mad::cli::LayerRegistry& registry) { registry.add_backbones(); }
