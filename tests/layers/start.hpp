// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Initial values of a layer's parameters, as the layer itself says, without a backbone.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/models/initial_values.hpp>
#include <mad/train/safetensors.hpp>

#include <catch.hpp>
#include <cmath>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace mad::testing {

/// The parameter's initial values for random numbers that follow from the seed.
inline std::vector<double> start_of(const Graph& graph, std::string_view parameter, Index max_length = 1,
                                    unsigned seed = 1) {
  for (int i = 0; i < graph.parameter_count; ++i) {
    const Parameter& p = graph.parameters[i];
    if (p.name.view() != parameter) continue;
    std::vector<double> values(static_cast<std::size_t>(p.count(max_length)));
    random::Generator generator(seed);
    fill_initial(p, p.initial, max_length, generator, values);
    return values;
  }
  FAIL("no parameter " << parameter);
  return {};
}

/// All values lie in [low, high], and the outer tenths of that range are both reached.
inline void check_range(const std::vector<double>& values, double low, double high) {
  double least = values.at(0);
  double most = values.at(0);
  for (const double v : values) {
    least = std::min(least, v);
    most = std::max(most, v);
  }
  CHECK(least >= low);
  CHECK(most <= high);
  CHECK(least < low + 0.1 * (high - low));
  CHECK(most > high - 0.1 * (high - low));
}

/// Every value of the fixture of initial values, and no parameter of the layer without a random draw is missing there.
template <class L, int Width>
void check_start(const std::string& fixture) {
  INFO("fixture " << fixture);
  const auto file = train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/" + fixture + ".safetensors");
  constexpr Graph graph = build_graph<L, Width>(all_passes);
  int compared = 0;
  for (const std::string& key : file.names()) {
    if (key.rfind("value.", 0) != 0) continue;
    const std::string parameter = key.substr(6);
    INFO("start of " << parameter);
    const std::vector<double> expected = file.values<double>(key);
    const std::vector<double> found = start_of(graph, parameter);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - expected[i]) < 1e-12);
    ++compared;
  }
  int fixed = 0;
  for (int i = 0; i < graph.parameter_count; ++i) {
    const Initial::Kind kind = graph.parameters[i].initial.kind;
    fixed += kind == Initial::Kind::constant || kind == Initial::Kind::filled;
  }
  CHECK(compared == fixed);
}

}  // namespace mad::testing
