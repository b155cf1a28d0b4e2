// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

namespace mad::testing {

TEST_CASE("The ends of a graph are differentiated") { prove(LayersOnEnds{}); }

}  // namespace mad::testing
