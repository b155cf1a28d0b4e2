// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "rows.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

// Few rows are added up by one block; more by several; many by groups of blocks.
TEST_CASE("norms, biases, embedding and loss on the device agree with the CPU") {
  compare_shapes<EvenRowsNet, 128, Norm::layer_norm>();
}

TEST_CASE("norms of odd widths on the device agree with the CPU") {
  compare_shapes<UnevenRowsNet, 42, Norm::rms_norm>();
}

TEST_CASE("sums over many rows on the device agree with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    compare<EvenRowsNet, 128, Norm::layer_norm>(
        {.precision = precision, .batch = 21, .length = 128, .positions = Positions::learned, .vocab_size = 130});
    compare<UnevenRowsNet, 42, Norm::rms_norm>(
        {.precision = precision, .batch = 20, .length = 150, .positions = Positions::learned, .vocab_size = 3});
  }
}

TEST_CASE("rows of several rounds of lanes on the device agree with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed})
    compare<WideRowsNet, 392, Norm::layer_norm>(
        {.precision = precision, .batch = 17, .length = 33, .positions = Positions::learned, .vocab_size = 520});
}

// Up to 64 classes, a multiple of 16, go with the loss and both gradients into one kernel.
TEST_CASE("logits of few classes on the device agree with the CPU") {
  if (no_device()) return;
  for (const int classes : {16, 24, 32, 48, 64, 80})
    compare<EvenRowsNet, 128, Norm::layer_norm>(
        {.precision = Precision::mixed, .batch = 3, .length = 37, .vocab_size = classes});
}
