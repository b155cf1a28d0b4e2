// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "toeplitz.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("multi-head Hyena on the device agrees with the CPU") { compare_shapes<ToeplitzNet, 64, Norm::layer_norm>(); }

TEST_CASE("multi-head Hyena with narrow heads on the device agrees with the CPU") {
  compare_shapes<NarrowToeplitzNet, 64, Norm::layer_norm>();
}

TEST_CASE("multi-head Hyena with heads of odd width on the device agrees with the CPU") {
  compare_shapes<OddToeplitzNet, 60, Norm::rms_norm>();
}

TEST_CASE("multi-head Hyena on long sequences agrees with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed})
    compare<ToeplitzNet, 64, Norm::layer_norm>(
        {.precision = precision, .batch = 2, .length = 1100, .max_length = 1200});
}

TEST_CASE("multi-head Hyena on many short sequences agrees with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed})
    compare<ToeplitzNet, 64, Norm::layer_norm>({.precision = precision, .batch = 11, .length = 64});
}

TEST_CASE("multi-head Hyena with odd heads on long sequences agrees with the CPU") {
  if (no_device()) return;
  compare<OddToeplitzNet, 60, Norm::rms_norm>({.precision = Precision::mixed, .batch = 1, .length = 1057});
}
