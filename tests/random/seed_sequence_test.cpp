// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "random/golden.hpp"

#include <mad/random/seed_sequence.hpp>

#include <array>

using mad::random::SeedSequence;
using namespace mad::testing;

TEST_CASE("hashed seeds are numpy's") {
  REQUIRE(recorded_streams().at("generator").size() == 5);
  for (const auto& entry : recorded_streams().at("generator")) {
    INFO("seed " << entry.at("seed"));
    const auto entropy = words32(entry.at("entropy_u32"));
    const SeedSequence from_words{std::span<const std::uint32_t>(entropy)};
    for (const SeedSequence& seed : {SeedSequence(word64(entry.at("seed"))), from_words}) {
      CHECK(std::vector(seed.pool().begin(), seed.pool().end()) == words32(entry.at("pool_u32")));
      std::vector<std::uint32_t> words(8);
      seed.words(std::span<std::uint32_t>(words));
      CHECK(words == words32(entry.at("state_u32")));
      std::vector<std::uint64_t> wide(4);
      seed.words(std::span<std::uint64_t>(wide));
      CHECK(wide == words64(entry.at("state_u64")));
    }
  }
}

TEST_CASE("every word of a long seed makes a difference") {
  std::vector<std::uint32_t> entropy{1, 2, 3, 4, 5, 6};
  const auto pool = SeedSequence{std::span<const std::uint32_t>(entropy)}.pool();
  for (std::uint32_t& word : entropy) {
    word ^= 0x10000;
    CHECK(SeedSequence{std::span<const std::uint32_t>(entropy)}.pool() != pool);
    word ^= 0x10000;
  }
}
