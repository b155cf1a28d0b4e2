// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "delta.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("DeltaNet on the device agrees with the CPU") { compare_shapes<DeltaNetAlone, 128, Norm::layer_norm>(); }

TEST_CASE("Gated DeltaNet on the device agrees with the CPU") {
  compare_shapes<GatedDeltaNetAlone, 128, Norm::rms_norm>();
}

// At length 1 the key's gradient is a small difference: what it is made of is rounded to a hundredth.
TEST_CASE("a delta rule with shared keys on the device agrees with the CPU") {
  compare_shapes<SharedKeyDeltaAlone, 64, Norm::layer_norm>(3e-2);
}

TEST_CASE("a delta rule with a wide head on the device agrees with the CPU") {
  compare_shapes<WideDeltaAlone, 64, Norm::rms_norm>();
}

TEST_CASE("delta rules on long sequences agree with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    compare<DeltaNetAlone, 128, Norm::layer_norm>({.precision = precision, .batch = 2, .length = 1100});
    compare<GatedDeltaNetAlone, 128, Norm::rms_norm>({.precision = precision, .batch = 1, .length = 1021});
  }
}
