// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The layers of the program mad, one source file per family, so that they compile side by side.
#pragma once

#include <mad/cli/layer_registry.hpp>

void add_attention(mad::cli::LayerRegistry& registry);
void add_sliding_attention(mad::cli::LayerRegistry& registry);
void add_channel_mixers(mad::cli::LayerRegistry& registry);
void add_hyena(mad::cli::LayerRegistry& registry);
void add_mamba(mad::cli::LayerRegistry& registry);
void add_backbones(mad::cli::LayerRegistry& registry);
