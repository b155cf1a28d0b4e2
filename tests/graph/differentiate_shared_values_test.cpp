// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

namespace mad::testing {

TEST_CASE("Values that the batch shares are differentiated") { prove(LayersOnSharedValues{}); }

}  // namespace mad::testing
