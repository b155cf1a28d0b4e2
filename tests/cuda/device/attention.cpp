// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "attention.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("attention in narrow heads on the device agrees with the CPU") {
  compare_shapes<NarrowNet, 64, Norm::layer_norm>();
}

TEST_CASE("attention in narrow heads over several chunks of keys agrees with the CPU") {
  if (no_device()) return;
  for (const Index length : {257, 512, 1024, 1100, 2070})
    compare<NarrowNet, 64, Norm::layer_norm>({.precision = Precision::mixed, .batch = 1, .length = length});
}

TEST_CASE("attention in wider heads on the device agrees with the CPU") {
  compare_shapes<WiderNet, 64, Norm::rms_norm>();
}

TEST_CASE("attention in wider heads that share keys on the device agrees with the CPU") {
  compare_shapes<GroupedWiderNet, 128, Norm::layer_norm>();
}

TEST_CASE("attention in heads of uneven width on the device agrees with the CPU") {
  compare_shapes<UnevenNet, 120, Norm::layer_norm>();
}

TEST_CASE("attention in wider heads agrees with the CPU at lengths around those of tiles") {
  if (no_device()) return;
  for (const Index length : {63, 64, 65, 127, 129, 257}) {
    const Comparison c{.precision = Precision::mixed, .batch = 1, .length = length};
    compare<WiderNet, 64, Norm::rms_norm>(c);
    compare<GroupedWiderNet, 128, Norm::layer_norm>(c);
    compare<UnevenNet, 120, Norm::layer_norm>(c);
  }
}

// Scores of over 40, made of numbers of 8 bits, are off by about a tenth, and their exponentials by as much.
TEST_CASE("sharp attention on the device agrees with the CPU") { compare_shapes<SharpNet, 24, Norm::layer_norm>(0.1); }
