// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

namespace mad::testing {

TEST_CASE("Slices of slices, of inputs and of parameters are differentiated") { prove(LayersOnSlices{}); }

}  // namespace mad::testing
