// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "recurrence.hpp"

#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

namespace {

/// Layers that normalise their heads, where these can be near 0: in bfloat16 their gradients depend on the last bit.
template <class Net>
void compare_exactly() {
  if (no_device()) return;
  compare<Net, 64, Norm::layer_norm>({.batch = 3, .length = 1});
  compare<Net, 64, Norm::layer_norm>({.batch = 1, .length = 37});
  compare<Net, 64, Norm::layer_norm>({.batch = 5, .length = 128, .vocab_size = 33});
}

/// In bfloat16 wide states take chunks of 64 tokens, of which a warp has 16.
template <class Net, int Width>
void compare_chunks() {
  if (no_device()) return;
  for (const Index length : {15, 16, 17, 63, 64, 65, 127, 129, 193})
    compare<Net, Width, Norm::layer_norm>({.precision = Precision::mixed, .batch = 1, .length = length});
}

/// ... and those of narrow heads tiles of 16.
template <class Net>
void compare_tiles() {
  if (no_device()) return;
  for (const Index length : {15, 16, 17, 31, 32, 33, 48})
    compare<Net, 64, Norm::layer_norm>({.precision = Precision::mixed, .batch = 3, .length = length});
}

}  // namespace

TEST_CASE("gated linear attention on the device agrees with the CPU") {
  compare_shapes<GatedAlone, 64, Norm::layer_norm>();
}

TEST_CASE("HGRN2 on the device agrees with the CPU") { compare_shapes<ExpandedAlone, 64, Norm::layer_norm>(); }

TEST_CASE("RetNet on the device agrees with the CPU") { compare_exactly<RetentionAlone>(); }

TEST_CASE("the time mixer of RWKV-5 on the device agrees with the CPU") { compare_exactly<EagleAlone>(); }

TEST_CASE("the time mixer of RWKV-6 on the device agrees with the CPU") {
  compare_shapes<FinchAlone, 64, Norm::layer_norm>();
}

TEST_CASE("recurrences with bonus and shared decays on the device agree with the CPU") {
  compare_shapes<PlainRecurrencesAlone, 64, Norm::layer_norm>();
}

TEST_CASE("linear attention with heads on the device agrees with the CPU") {
  compare_shapes<NormalisedAlone, 64, Norm::layer_norm>();
}

TEST_CASE("linear attention of learned features on the device agrees with the CPU") {
  compare_shapes<HedgehogAlone, 64, Norm::layer_norm>();
}

TEST_CASE("Mamba-2 with shared keys on the device agrees with the CPU") {
  compare_shapes<GroupedMamba2Alone, 64, Norm::layer_norm>();
}

TEST_CASE("linear attention with a single head on the device agrees with the CPU") {
  compare_shapes<WideLinearAlone, 128, Norm::layer_norm>();
}

TEST_CASE("gated linear attention with a single head on the device agrees with the CPU") {
  compare_shapes<WideGatedAlone, 128, Norm::layer_norm>();
}

TEST_CASE("recurrences of wide states and strong decays on the device agree with the CPU") {
  compare_shapes<WideRecurrencesAlone, 64, Norm::layer_norm>();
}

TEST_CASE("recurrences of narrow heads and strong decays on the device agree with the CPU") {
  compare_shapes<NarrowRecurrencesAlone, 64, Norm::layer_norm>();
}

TEST_CASE("recurrences in tiles of every length on the device agree with the CPU") {
  compare_tiles<NarrowRecurrencesAlone>();
  compare_tiles<PlainRecurrencesAlone>();
  compare_tiles<NormalisedAlone>();
}

TEST_CASE("recurrences in chunks of every length on the device agree with the CPU") {
  compare_chunks<WideLinearAlone, 128>();
  compare_chunks<WideGatedAlone, 128>();
  compare_chunks<WideRecurrencesAlone, 64>();
}

TEST_CASE("recurrences over long sequences on the device agree with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    compare<NormalisedAlone, 64, Norm::layer_norm>({.precision = precision, .batch = 2, .length = 1030});
    compare<PlainRecurrencesAlone, 64, Norm::layer_norm>({.precision = precision, .batch = 1, .length = 1021});
    compare<NarrowRecurrencesAlone, 64, Norm::layer_norm>({.precision = precision, .batch = 1, .length = 1027});
    compare<WideLinearAlone, 128, Norm::layer_norm>({.precision = precision, .batch = 1, .length = 1025});
    compare<WideGatedAlone, 128, Norm::layer_norm>({.precision = precision, .batch = 1, .length = 1022});
  }
}
