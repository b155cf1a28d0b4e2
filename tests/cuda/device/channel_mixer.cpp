// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "channel_mixer.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("channel mixers on the device agree with the CPU") { compare_shapes<GatedNet, 128, Norm::layer_norm>(); }

TEST_CASE("channel mixers of a width between powers of two agree with the CPU") {
  compare_shapes<GatedNet, 48, Norm::rms_norm>();
}

TEST_CASE("channel mixers of several inputs and products, and what is not one, agree with the CPU") {
  compare_shapes<RoutedMixersNet, 112, Norm::layer_norm>();
}

TEST_CASE("RWKV's channel mixers agree with the CPU") { compare_shapes<ShiftedNet, 128, Norm::layer_norm>(); }

TEST_CASE("channel mixers over more rows than multiprocessors take at once agree with the CPU") {
  if (no_device()) return;
  compare<GatedNet, 128, Norm::layer_norm>({.precision = Precision::mixed, .batch = 130, .length = 131});
}

// The device computes the gradients of the norms in front in the mixers' kernels from 65,536 rows on, and in kernels of
// their own in the halves of the batch. Those of the norms' parameters are small beside others, and so they are
// compared with each other, too.
TEST_CASE("channel mixers and the gradients of their norms over many rows agree with the CPU") {
  if (no_device()) return;
  const Comparison c{
      .precision = Precision::mixed, .batch = 521, .length = 126, .parts_tolerance = 2e-2, .keeps_shape = true};
  compare<GatedNet, 128, Norm::layer_norm>(c);
  compare<NarrowInsidesNet, 128, Norm::rms_norm>(c);
}

TEST_CASE("channel mixers of a width between powers of two over many rows agree with the CPU") {
  if (no_device()) return;
  compare<GatedNet, 48, Norm::rms_norm>({.precision = Precision::mixed, .batch = 512, .length = 128});
}
