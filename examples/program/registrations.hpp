// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The layers of the program mad, one source file per family, so that they compile side by side.
#pragma once

#include <mad/cli/layer_registry.hpp>

void add_attention(mad::cli::LayerRegistry& registry);
void add_sliding_attention(mad::cli::LayerRegistry& registry);
void add_channel_mixers(mad::cli::LayerRegistry& registry);
void add_delta_rules(mad::cli::LayerRegistry& registry);
void add_experts(mad::cli::LayerRegistry& registry);
void add_gated_linear_attention(mad::cli::LayerRegistry& registry);
void add_gated_recurrences(mad::cli::LayerRegistry& registry);
void add_hyena(mad::cli::LayerRegistry& registry);
void add_linear_attention(mad::cli::LayerRegistry& registry);
void add_mamba(mad::cli::LayerRegistry& registry);
void add_mh_hyena(mad::cli::LayerRegistry& registry);
void add_rwkv(mad::cli::LayerRegistry& registry);
void add_rwkv7(mad::cli::LayerRegistry& registry);
void add_architectures(mad::cli::LayerRegistry& registry);
void add_backbones(mad::cli::LayerRegistry& registry);

/// All of them, in the order of the lists.
inline void add_all_layers(mad::cli::LayerRegistry& registry) {
  add_attention(registry);
  add_sliding_attention(registry);
  add_linear_attention(registry);
  add_gated_linear_attention(registry);
  add_hyena(registry);
  add_mh_hyena(registry);
  add_mamba(registry);
  add_rwkv(registry);
  add_rwkv7(registry);
  add_gated_recurrences(registry);
  add_delta_rules(registry);
  add_channel_mixers(registry);
  add_experts(registry);
  add_architectures(registry);
  add_backbones(registry);
}
