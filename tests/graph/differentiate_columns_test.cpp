// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

namespace mad::testing {

TEST_CASE("Repeated columns and sums over columns are differentiated") { prove(LayersOnColumns{}); }

}  // namespace mad::testing
