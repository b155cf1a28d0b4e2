// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "experts.hpp"

#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("a mixture of experts on the device agrees with the CPU") {
  compare_shapes<DenseMoeNet, 64, Norm::layer_norm>();
}

// Products of sums over channels magnify what activations lose in bfloat16.
TEST_CASE("Hyena experts on the device agree with the CPU") {
  compare_shapes<DenseHyenaExpertsNet, 32, Norm::rms_norm>(4e-2);
}

// Rounding to bfloat16 changes which scores are the largest, and with it everything: routes are compared in fp32 only.
TEST_CASE("routed experts on the device agree with the CPU") {
  compare_shapes_at<RoutedNet, 64, Norm::layer_norm>(Precision::exact);
}

TEST_CASE("maps shared by heads and rational filters on the device agree with the CPU") {
  compare_shapes<SharedMapsNet, 64, Norm::layer_norm>();
}

TEST_CASE("products of maps shared by heads on the device agree with the CPU") {
  compare_shapes<ProductsOfMapsNet, 64, Norm::layer_norm>();
}

TEST_CASE("maps that share weights and biases on the device agree with the CPU") {
  compare_shapes<SharedWeightsNet, 64, Norm::layer_norm>();
}

TEST_CASE("experts, shared maps and rational filters on long sequences agree with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    compare<DenseMoeNet, 64, Norm::layer_norm>({.precision = precision, .batch = 17, .length = 1025});
    compare<SharedMapsNet, 64, Norm::layer_norm>({.precision = precision, .batch = 2, .length = 1021});
    compare<ProductsOfMapsNet, 64, Norm::layer_norm>({.precision = precision, .batch = 17, .length = 1025});
  }
}
