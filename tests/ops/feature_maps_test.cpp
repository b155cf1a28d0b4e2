// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <mad/ops/feature_maps.hpp>

#include <catch.hpp>
#include <cmath>
#include <utility>

namespace mad::testing {

namespace {

template <int Heads>
struct Dpfp {
  static constexpr std::string_view name = "dpfp";
  static constexpr Value forward(Value x) { return dpfp(slice(x, 1, x.width() - 1), Heads); }
};
template <int Heads>
struct Taylor {
  static constexpr std::string_view name = "taylor";
  static constexpr Value forward(Value x) { return taylor(slice(x, 1, x.width() - 1), Heads); }
};

/// A feature: factor * a * b of two channels of the head, or of one (second -1) or none (both -1). Channels count from
/// 0; 10000 + i stands for relu(x_i), and a negative factor for the mirrored half.
struct Monomial {
  double factor;
  int first, second;
};
constexpr int rectified = 10000;

std::vector<Monomial> dpfp_features(int d) {
  std::vector<Monomial> features;
  for (int j = 1; j <= 4; ++j)
    for (int i = 0; i < 2 * d; ++i) {
      const int k = ((i - j) % (2 * d) + 2 * d) % (2 * d);
      const double sign = (i < d) == (k < d) ? 1 : -1;
      features.push_back({sign, rectified + i % d, rectified + k % d});
    }
  return features;
}

std::vector<Monomial> taylor_features(int d) {
  std::vector<Monomial> features{{1, -1, -1}};
  for (int i = 0; i < d; ++i) features.push_back({std::pow(d, -0.25), i, -1});
  for (int i = 0; i < d; ++i) features.push_back({std::sqrt(0.5 / d), i, i});
  for (int i = 0; i < d; ++i)
    for (int j = i + 1; j < d; ++j) features.push_back({std::sqrt(1.0 / d), i, j});
  return features;
}

template <class L, int Heads, int HeadWidth, class T>
void check_features(const std::vector<Monomial>& features, double tolerance) {
  INFO(L::name << ", heads " << Heads << ", head width " << HeadWidth);
  constexpr int Width = 1 + Heads * HeadWidth;
  const Shape shape{2, 3, 3};
  const auto count = static_cast<Index>(features.size());
  const std::vector<T> x = ramp<T>(shape.tokens() * Width, 0.11, -1.6);
  const std::vector<T> dy = ramp<T>(shape.tokens() * Heads * count, -0.04, 0.6);
  const Passes<T> p = run_layer<L, Width, T>(shape, x, dy);
  std::vector<double> dx(x.size(), 0.0);
  double worst = 0;
  const auto compare = [&](T found, double expected) {
    const double error = std::abs(static_cast<double>(found) - expected);
    worst = error <= worst ? worst : std::isnan(error) ? INFINITY : error;
  };
  for (Index r = 0; r < shape.tokens(); ++r)
    for (Index h = 0; h < Heads; ++h) {
      const Index head = r * Width + 1 + h * HeadWidth;
      const auto channel = [&](int c) { return static_cast<std::size_t>(head + c % rectified); };
      const auto value = [&](int c) {
        if (c < 0) return 1.0;
        const double v = static_cast<double>(x[channel(c)]);
        return c >= rectified ? std::max(v, 0.0) : v;
      };
      const auto slope = [&](int c) { return c < rectified || static_cast<double>(x[channel(c)]) > 0 ? 1.0 : 0.0; };
      for (Index f = 0; f < count; ++f) {
        const Monomial& m = features[static_cast<std::size_t>(f)];
        const auto at = static_cast<std::size_t>((r * Heads + h) * count + f);
        compare(p.y[at], m.factor * value(m.first) * value(m.second));
        const double g = m.factor * static_cast<double>(dy[at]);
        if (m.first >= 0) dx[channel(m.first)] += g * slope(m.first) * value(m.second);
        if (m.second >= 0) dx[channel(m.second)] += g * slope(m.second) * value(m.first);
      }
    }
  for (std::size_t k = 0; k < dx.size(); ++k) compare(p.dx[k], dx[k]);
  CHECK(worst < tolerance);
}

template <int Heads, int HeadWidth>
void check_both() {
  check_features<Dpfp<Heads>, Heads, HeadWidth, double>(dpfp_features(HeadWidth), 1e-13);
  check_features<Dpfp<Heads>, Heads, HeadWidth, float>(dpfp_features(HeadWidth), 1e-4);
  check_features<Taylor<Heads>, Heads, HeadWidth, double>(taylor_features(HeadWidth), 1e-13);
  check_features<Taylor<Heads>, Heads, HeadWidth, float>(taylor_features(HeadWidth), 1e-4);
}

}  // namespace

TEST_CASE("Feature maps agree with their products, written out") {
  check_both<2, 1>();
  check_both<3, 3>();
  check_both<2, 8>();
  check_both<1, 19>();
}

}  // namespace mad::testing
