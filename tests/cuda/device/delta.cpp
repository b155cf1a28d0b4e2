// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "delta.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("DeltaNet on the device agrees with the CPU") { compare_shapes<DeltaNetAlone, 128, Norm::layer_norm>(); }

TEST_CASE("Gated DeltaNet on the device agrees with the CPU") {
  compare_shapes<GatedDeltaNetAlone, 128, Norm::rms_norm>();
}

// Ill-conditioned: in double precision parameters that change by up to 2^-8 of themselves change the gradient by 2e-2
// at length 1, by 6e-2 at 37. Found on a GPU at length 1: 2.3e-2; the other shapes agree to 2e-2.
TEST_CASE("a delta rule with shared keys on the device agrees with the CPU") {
  compare_shapes_at<SharedKeyDeltaAlone, 64, Norm::layer_norm>(Precision::exact);
  compare_shapes_at<SharedKeyDeltaAlone, 64, Norm::layer_norm>(Precision::mixed, Comparison{}.bf16_tolerance, 3e-2);
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
