// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>

void add_channel_mixers(mad::cli::LayerRegistry& registry) {
  registry.add<mad::Mlp>("inner width 4 D, GELU, no biases");
  registry.add<mad::SwiGLU>("inner width 8 D / 3 rounded up to a multiple of 16, no biases");
}
