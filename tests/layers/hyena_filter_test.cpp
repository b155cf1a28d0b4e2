// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"
#include "start.hpp"

#include <mad/graph/cost.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

constexpr HyenaOptions rational(RationalFilterOptions options) {
  return {.inner_factor = 2, .filter_kind = FilterKind::rational, .rational = options};
}

using RationalHyena = HyenaLayer<rational({.state = 4})>;
using SharedRationalHyena = HyenaLayer<rational({.state = 3, .denominators = 4, .init = RationalInit::uniform_root})>;

}  // namespace

// 96 of 24 inputs each after a projection of 16, 64 rows of 4 coefficients, two vectors of 32, output projection.
static_assert(parameter_count(Lowered<RationalHyena, 16>::graph, 24) ==
              24 * 16 + 24 + 96 * 3 + 96 + 32 + 64 * 4 + 32 + 16 * 32 + 16);
static_assert(parameter_count(Lowered<SharedRationalHyena, 16>::graph, 24) ==
              24 * 16 + 24 + 96 * 3 + 96 + 32 + 36 * 3 + 32 + 16 * 32 + 16);

TEST_CASE("Hyena with rational filters agrees with the reference") {
  testing::check_golden<RationalHyena, 16>("hyena_rtf_d16_l24", 24);
}

TEST_CASE("Hyena with rational filters is proved") { CHECK(testing::check_layer<SharedRationalHyena, 8>()); }

TEST_CASE("Rational filters start as asked for") {
  const Graph& zeros = Lowered<RationalHyena, 16>::graph;
  const Graph& uniform = Lowered<SharedRationalHyena, 16>::graph;
  for (const double value : testing::start_of(zeros, "long_conv.filter.ab")) CHECK(value == 0);
  testing::check_range(testing::start_of(uniform, "long_conv.filter.ab"), -1 / std::sqrt(3), 1 / std::sqrt(3));
  const std::vector<double> h_0 = testing::start_of(zeros, "long_conv.filter.h_0");
  double square = 0;
  for (const double value : h_0) square += value * value;
  CHECK(square / static_cast<double>(h_0.size()) == Approx(1).margin(0.8));
}

}  // namespace mad
