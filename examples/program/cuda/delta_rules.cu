// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/delta_net.hpp>
#include <mad/layers/gated_delta_net.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::DeltaNet, mad::GatedDeltaNet>();
}
