// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The recorded streams of numpy's generators, and the number formats they are written in.
#pragma once

#include "catch.hpp"

#include <mad/random/pcg64.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace mad::testing {

inline const nlohmann::json& recorded_streams() {
  static const nlohmann::json streams = [] {
    std::ifstream file(std::string(MAD_GOLDEN_DIR) + "/tasks/numpy_rng.json");
    REQUIRE(file.good());
    return nlohmann::json::parse(file);
  }();
  return streams;
}

inline std::uint64_t word64(const nlohmann::json& decimal) { return std::stoull(decimal.get<std::string>()); }

inline random::Uint128 word128(const nlohmann::json& decimal) {
  random::Uint128 value = 0;
  for (const char digit : decimal.get<std::string>()) value = 10 * value + static_cast<unsigned>(digit - '0');
  return value;
}

inline double number(const nlohmann::json& hexadecimal) {
  return std::strtod(hexadecimal.get<std::string>().c_str(), nullptr);
}

inline std::vector<std::uint64_t> words64(const nlohmann::json& list) {
  std::vector<std::uint64_t> words;
  for (const auto& decimal : list) words.push_back(word64(decimal));
  return words;
}

inline std::vector<std::uint32_t> words32(const nlohmann::json& list) { return list.get<std::vector<std::uint32_t>>(); }

}  // namespace mad::testing
