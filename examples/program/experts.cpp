// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "registrations.hpp"

#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/moe_mlp.hpp>

void add_experts(mad::cli::LayerRegistry& registry) {
  registry.add<mad::HyenaExperts>("8 experts, 2 active, order 2, short filter 3, filter order 16");
  registry.add<mad::MoeMlp>("8 experts of inner width D / 8, 2 active, no biases");
}
