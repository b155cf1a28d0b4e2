// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "random/golden.hpp"

#include <mad/random/pcg64.hpp>

using mad::random::Pcg64;
using mad::random::Pcg64State;
using mad::random::Uint128;
using namespace mad::testing;

TEST_CASE("PCG64 is numpy's from the seed to the words") {
  REQUIRE(recorded_streams().at("generator").size() == 5);
  for (const auto& entry : recorded_streams().at("generator")) {
    INFO("seed " << entry.at("seed"));
    const Pcg64 fresh(word64(entry.at("seed")));
    const Pcg64State state = fresh.state();
    CHECK((Uint128{state.state_high} << 64 | state.state_low) == word128(entry.at("pcg64").at("state")));
    CHECK((Uint128{state.increment_high} << 64 | state.increment_low) == word128(entry.at("pcg64").at("inc")));
    CHECK_FALSE(state.has_spare);

    Pcg64 bits = fresh;
    for (const std::uint64_t word : words64(entry.at("raw_u64"))) CHECK(bits.next64() == word);
    bits = fresh;
    for (const std::uint32_t word : words32(entry.at("next_u32"))) CHECK(bits.next32() == word);
  }
}

TEST_CASE("a saved PCG64 continues where it was, spare half word included") {
  Pcg64 bits(7);
  bits.next32();
  const Pcg64State saved = bits.state();
  REQUIRE(saved.has_spare);
  Pcg64 restored(saved);
  CHECK(restored.state() == saved);
  for (int i = 0; i < 9; ++i) CHECK(restored.next32() == bits.next32());
  CHECK(restored.state() == bits.state());
}
