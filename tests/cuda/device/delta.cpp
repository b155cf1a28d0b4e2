// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "delta.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

// Heads are normed, which makes much of the roundings of what they are made from: rounding nothing but the parameters
// to bfloat16 already changes the gradients of these layers by one to four hundredths.

TEST_CASE("DeltaNet on the device agrees with the CPU") { compare_shapes<DeltaNetAlone, 128, Norm::layer_norm>(3e-2); }

TEST_CASE("Gated DeltaNet on the device agrees with the CPU") {
  compare_shapes<GatedDeltaNetAlone, 128, Norm::rms_norm>(3e-2);
}

TEST_CASE("a delta rule with shared keys on the device agrees with the CPU") {
  compare_shapes<SharedKeyDeltaAlone, 64, Norm::layer_norm>(6e-2);
}

TEST_CASE("a delta rule with a wide head on the device agrees with the CPU") {
  compare_shapes<WideDeltaAlone, 64, Norm::rms_norm>(3e-2);
}

TEST_CASE("delta rules on long sequences agree with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    compare<DeltaNetAlone, 128, Norm::layer_norm>(
        {.precision = precision, .batch = 2, .length = 1100, .bf16_tolerance = 3e-2});
    compare<GatedDeltaNetAlone, 128, Norm::rms_norm>(
        {.precision = precision, .batch = 1, .length = 1021, .bf16_tolerance = 3e-2});
  }
}
