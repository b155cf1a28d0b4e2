// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "random/golden.hpp"

#include <mad/core/error.hpp>
#include <mad/random/legacy_generator.hpp>

using mad::random::LegacyGenerator;
using mad::random::LegacyState;
using namespace mad::testing;

namespace {

void check_draws(LegacyGenerator& draw, const nlohmann::json& call) {
  INFO("n " << call.at("n"));
  REQUIRE(call.at("values").size() == call.at("m").get<std::size_t>());
  for (const std::uint64_t value : words64(call.at("values"))) {
    CHECK(draw.randint_unsigned(word64(call.at("n"))) == value);
  }
}

}  // namespace

TEST_CASE("the legacy generator is numpy's from the seed to the words") {
  REQUIRE(recorded_streams().at("legacy").size() == 5);
  for (const auto& entry : recorded_streams().at("legacy")) {
    INFO("seed " << entry.at("seed"));
    LegacyGenerator draw(static_cast<std::uint32_t>(word64(entry.at("seed"))));
    const auto head = words32(entry.at("key_head"));
    for (std::size_t i = 0; i < head.size(); ++i) CHECK(draw.state().key[i] == head[i]);
    std::vector<std::uint32_t> words;
    for (int i = 0; i < 636; ++i) words.push_back(draw.next32());
    CHECK(std::vector(words.begin(), words.begin() + 16) == words32(entry.at("raw_u32_first16")));
    CHECK(std::vector(words.begin() + 620, words.end()) == words32(entry.at("raw_u32_620_to_635")));
  }
}

TEST_CASE("legacy bounded integers are numpy's") {
  for (const auto& entry : recorded_streams().at("legacy")) {
    INFO("seed " << entry.at("seed"));
    const auto seed = static_cast<std::uint32_t>(word64(entry.at("seed")));
    REQUIRE_FALSE(entry.at("randint").empty());
    for (const auto& call : entry.at("randint")) {
      LegacyGenerator fresh(seed);
      check_draws(fresh, call);
    }
    REQUIRE_FALSE(entry.at("program").empty());
    LegacyGenerator draw(seed);
    for (const auto& call : entry.at("program")) check_draws(draw, call);
  }
}

TEST_CASE("a saved legacy generator continues where it was") {
  LegacyGenerator draw(5);
  for (int i = 0; i < 700; ++i) draw.next32();
  const LegacyState saved = draw.state();
  LegacyGenerator restored(saved);
  for (int i = 0; i < 700; ++i) REQUIRE(restored.next32() == draw.next32());
  CHECK(restored.state() == draw.state());

  LegacyState damaged = saved;
  damaged.position = 625;
  CHECK_THROWS_AS(LegacyGenerator(damaged), mad::Error);
}

TEST_CASE("an empty range of the legacy generator is an error") {
  LegacyGenerator draw(5);
  CHECK_THROWS_AS(draw.randint(0), mad::Error);
  CHECK(draw.randint(1) == 0);
}
