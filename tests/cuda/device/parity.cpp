// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "comparison.hpp"
#include "nets.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("attention on the device agrees with the CPU") { compare_shapes<MultiHeadNet, 64, Norm::layer_norm>(); }

TEST_CASE("windows, shared keys and RMSNorm on the device agree with the CPU") {
  compare_shapes<SlidingNet, 64, Norm::rms_norm>();
}

TEST_CASE("a single wide head on the device agrees with the CPU") {
  compare_shapes<SingleHeadNet, 128, Norm::layer_norm>();
  if (no_device()) return;
  for (const Index length : {63, 64, 65, 127, 129, 257})  // around those of tiles
    compare<SingleHeadNet, 128, Norm::layer_norm>({.precision = Precision::mixed, .batch = 1, .length = length});
}

TEST_CASE("heads of odd width on the device agree with the CPU") { compare_shapes<OddNet, 36, Norm::layer_norm>(); }

TEST_CASE("Hyena on the device agrees with the CPU") { compare_shapes<HyenaNet, 64, Norm::layer_norm>(); }

TEST_CASE("Hyena whose projections are tiled in other ways on the device agrees with the CPU") {
  compare_shapes<TiledHyenaNet, 64, Norm::layer_norm>();
}

TEST_CASE("Hyena over several tiles of positions, and whatever sequences are left over, agrees with the CPU") {
  if (no_device()) return;
  for (const auto& [batch, length] :
       {std::pair<Index, Index>{9, 129}, {17, 144}, {3, 383}, {1, 257}, {2, 700}, {1, 1100}})
    compare<HyenaNet, 64, Norm::layer_norm>({.precision = Precision::mixed, .batch = batch, .length = length});
}

TEST_CASE("Hyena on sequences of which a multiprocessor gets several agrees with the CPU") {
  if (no_device()) return;
  for (const auto& [batch, length] : {std::pair<Index, Index>{150, 100}, {75, 130}, {70, 260}, {37, 520}})
    compare<HyenaNet, 64, Norm::layer_norm>({.precision = Precision::mixed, .batch = batch, .length = length});
}

TEST_CASE("Mamba on the device agrees with the CPU") { compare_shapes<MambaNet, 64, Norm::layer_norm>(); }

TEST_CASE("Mamba over several tiles of tokens and with more sequences than multiprocessors agrees with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed}) {
    compare<MambaNet, 64, Norm::layer_norm>({.precision = precision, .batch = 1, .length = 129});
    compare<MambaNet, 64, Norm::layer_norm>({.precision = precision, .batch = 2, .length = 300});
    for (const auto& [batch, length] : {std::pair<Index, Index>{300, 9}, {140, 1}, {150, 70}, {133, 129}})
      compare<MambaNet, 64, Norm::layer_norm>({.precision = precision, .batch = batch, .length = length});
  }
}

TEST_CASE("a mixture of layers on long sequences agrees with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed})
    compare<MixedNet, 128, Norm::rms_norm>({.precision = precision, .batch = 2, .length = 1100});
}

TEST_CASE("position embeddings on the device agree with the CPU") {
  if (no_device()) return;
  for (const Positions positions : {Positions::learned, Positions::sinusoidal})
    compare<MultiHeadNet, 64, Norm::layer_norm>(
        {.batch = 3, .length = 20, .max_length = 24, .positions = positions, .vocab_size = 70});
}

TEST_CASE("a device that does not exist is refused in one sentence") {
  const std::string refusal = refusal_of_device(1000);
  CHECK(refusal.starts_with("device cuda"));
  CHECK(refusal.find('\n') == std::string::npos);
}
