// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <mad/ops/expert_weights.hpp>

#include <algorithm>
#include <catch.hpp>
#include <cmath>

namespace mad::testing {

namespace {

template <int Active, Routing R>
struct Weights {
  static constexpr std::string_view name = "weights";
  static constexpr Value forward(Value scores) { return expert_weights(scores, Active, R); }
};

/// Shares of the experts, and the gradient of their scores given that of the shares.
struct Expected {
  std::vector<double> p, ds;
  std::vector<bool> dropped;
};

/// The definition, with the threshold found by sorting.
Expected expected_weights(const std::vector<double>& scores, const std::vector<double>& dp, int active,
                          Routing routing) {
  std::vector<double> sorted = scores;
  std::sort(sorted.rbegin(), sorted.rend());
  const double theta = sorted[static_cast<std::size_t>(active - 1)];
  std::vector<bool> dropped;
  for (double s : scores) dropped.push_back(s < theta);
  std::vector<double> counted = scores;
  for (std::size_t e = 0; e < scores.size(); ++e)
    if (dropped[e]) counted[e] = routing == Routing::published ? 0.0 : -INFINITY;
  const double largest = *std::max_element(counted.begin(), counted.end());
  double sum = 0;
  double mean = 0;
  Expected x{counted, counted, dropped};
  for (double& p : x.p) sum += p = std::exp(p - largest);
  for (std::size_t e = 0; e < scores.size(); ++e) mean += dp[e] * (x.p[e] /= sum);
  for (std::size_t e = 0; e < scores.size(); ++e) x.ds[e] = dropped[e] ? 0 : x.p[e] * (dp[e] - mean);
  return x;
}

template <int Experts, int Active, Routing R, class T>
void check_weights(const std::vector<std::vector<double>>& rows, double tolerance) {
  INFO(Experts << " experts, " << Active << " active, " << (R == Routing::published ? "published" : "intended"));
  std::vector<T> scores;
  for (const std::vector<double>& row : rows) {
    REQUIRE(row.size() == Experts);
    for (double s : row) scores.push_back(static_cast<T>(s));
  }
  const auto count = static_cast<Index>(rows.size());
  const std::vector<T> dp = ramp<T>(count * Experts, 0.21, -2);
  const Passes<T> found = run_layer<Weights<Active, R>, Experts, T>({count, 1, 1}, scores, dp);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto begin = dp.begin() + static_cast<Index>(r) * Experts;
    const Expected x = expected_weights(rows[r], {begin, begin + Experts}, Active, R);
    for (std::size_t e = 0; e < Experts; ++e) {
      INFO("row " << r << ", expert " << e);
      CHECK(std::abs(static_cast<double>(found.y[r * Experts + e]) - x.p[e]) <= tolerance);
      CHECK(std::abs(static_cast<double>(found.dx[r * Experts + e]) - x.ds[e]) <= 4 * tolerance);
      if (x.dropped[e] && R == Routing::intended) CHECK(found.y[r * Experts + e] == T(0));
      if (x.dropped[e]) CHECK(found.dx[r * Experts + e] == T(0));
    }
  }
}

template <Routing R, class T>
void check_table(double tolerance) {
  // Ordinary scores; all below 0; ties at the threshold; all equal; far apart; all far below 0.
  const std::vector<std::vector<double>> four = {
      {0.5, -1.25, 2, 0.25},    {-0.5, -1.25, -2, -0.25},      {1, 0.5, 0.5, 0.5},
      {0.75, 0.75, 0.75, 0.75}, {1000, -1000, 999, 0.0078125}, {-1000, -1004, -1001, -1002}};
  check_weights<4, 1, R, T>(four, tolerance);
  check_weights<4, 2, R, T>(four, tolerance);
  check_weights<4, 4, R, T>(four, tolerance);
  std::vector<std::vector<double>> wide(3);
  for (std::size_t r = 0; r < 3; ++r)
    for (int e = 0; e < 21; ++e)
      wide[r].push_back(0.125 * static_cast<double>((e * 8 + static_cast<int>(r)) % 21) - 1.5);
  check_weights<21, 2, R, T>(wide, tolerance);
  check_weights<21, 17, R, T>(wide, tolerance);
  check_weights<1, 1, R, T>({{3}, {-3}}, tolerance);
}

}  // namespace

TEST_CASE("Weights of experts agree with their definition, ties and extremes included") {
  check_table<Routing::published, double>(1e-15);
  check_table<Routing::intended, double>(1e-15);
  check_table<Routing::published, float>(4e-7);
  check_table<Routing::intended, float>(4e-7);
}

}  // namespace mad::testing
