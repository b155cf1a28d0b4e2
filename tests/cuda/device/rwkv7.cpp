// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "rwkv7.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

TEST_CASE("RWKV-7 on the device agrees with the CPU") { compare_shapes<RWKV7Nets, 64, Norm::layer_norm>(); }

// The first output of a sequence is (r.k) v, which the norm behind it scales to length 1: where r.k of an only head is
// near 0, gradients are large and bfloat16 gives few digits of them. So only one batch without such a token is mixed.
TEST_CASE("RWKV-7 with a wide head on the device agrees with the CPU") {
  if (no_device()) return;
  for (const Index length : {1, 37, 128})
    compare<WideRWKV7Net, 64, Norm::layer_norm>({.batch = 3, .length = length, .max_length = 128});
  compare<WideRWKV7Net, 64, Norm::layer_norm>({.precision = Precision::mixed, .batch = 1, .length = 37});
}

TEST_CASE("RWKV-7 with heads of odd width on the device agrees with the CPU") {
  compare_shapes<OddRWKV7Net, 36, Norm::rms_norm>();
}

TEST_CASE("RWKV-7 on long sequences agrees with the CPU") {
  if (no_device()) return;
  for (const Precision precision : {Precision::exact, Precision::mixed})
    compare<RWKV7Nets, 64, Norm::layer_norm>({.precision = precision, .batch = 2, .length = 1100});
}
