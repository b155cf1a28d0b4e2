// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of the delta rule.
#pragma once

#include <mad/layers/delta_net.hpp>
#include <mad/layers/gated_delta_net.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// Keys shared by two heads of values each.
struct SharedKeyDelta
    : GatedDeltaNetLayer<GatedDeltaNetOptions{.heads = 2, .value_heads = 4, .head_width = 8, .expand_v = 1}> {};
/// One head: more columns than a warp has lanes, not a power of two; beta up to 2, and a gate.
struct WideDelta : DeltaNetLayer<DeltaNetOptions{.heads = 1,
                                                 .expand_k = 0.25,
                                                 .expand_v = 0.75,
                                                 .conv = 3,
                                                 .output_gate = true,
                                                 .negative_eigenvalues = true}> {};

using DeltaNetAlone = Stack<DeltaNet>;
using GatedDeltaNetAlone = Stack<GatedDeltaNet>;
using SharedKeyDeltaAlone = Stack<SharedKeyDelta>;
using WideDeltaAlone = Stack<WideDelta>;

}  // namespace mad::testing
