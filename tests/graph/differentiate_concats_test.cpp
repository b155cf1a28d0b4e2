// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "prove_little_layers.hpp"

namespace mad::testing {

TEST_CASE("Concats of shared parts, views and concats are differentiated") { prove(LayersOnConcats{}); }

}  // namespace mad::testing
