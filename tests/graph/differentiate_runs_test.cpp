// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

namespace mad::testing {

TEST_CASE("Long runs and kernels that run twice are differentiated") { prove(LayersOnRuns{}); }

}  // namespace mad::testing
