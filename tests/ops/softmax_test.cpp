// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <mad/ops/softmax.hpp>

#include <catch.hpp>
#include <cmath>

namespace mad::testing {

namespace {

template <int Group>
struct Softmax {
  static constexpr std::string_view name = "softmax";
  static constexpr Value forward(Value x) { return softmax(x, Group); }
};
/// Of a slice, whose rows are not contiguous.
template <int Group>
struct SoftmaxOfSlice {
  static constexpr std::string_view name = "softmax of a slice";
  static constexpr Value forward(Value x) { return softmax(slice(x, 1, x.width() - 2), Group); }
};

/// Against exp(x_i) / sum exp(x_j) and its Jacobian p_i (delta_ij - p_j), in long double.
template <class L, int Width, int First, int Wide, int Group, class T>
void check_softmax(double reach, double tolerance) {
  INFO(L::name << ", width " << Width << ", group " << Group);
  const Shape shape{2, 3, 3};
  std::vector<T> x = ramp<T>(shape.tokens() * Width, 0.11 * reach, -1.3 * reach);
  const std::vector<T> dy = ramp<T>(shape.tokens() * Wide, -0.04, 0.6);
  const Passes<T> p = run_layer<L, Width, T>(shape, x, dy);
  std::vector<double> dx(x.size(), 0.0);
  double worst = 0;
  const auto compare = [&](double found, double expected) {
    worst = std::isfinite(found) ? std::max(worst, std::abs(found - expected)) : INFINITY;
  };
  for (Index r = 0; r < shape.tokens(); ++r)
    for (Index c = 0; c < Wide; c += Group) {
      const T* from = x.data() + r * Width + First + c;
      const auto at = static_cast<std::size_t>(r * Wide + c);
      const auto share = [&](Index i) {
        long double sum = 0;
        for (Index j = 0; j < Group; ++j)
          sum += std::exp(static_cast<long double>(from[j]) - static_cast<long double>(from[i]));
        return static_cast<double>(1 / sum);
      };
      for (Index i = 0; i < Group; ++i) {
        compare(static_cast<double>(p.y[at + static_cast<std::size_t>(i)]), share(i));
        for (Index j = 0; j < Group; ++j)
          dx[static_cast<std::size_t>(r * Width + First + c + j)] +=
              static_cast<double>(dy[at + static_cast<std::size_t>(i)]) * share(i) * ((i == j ? 1 : 0) - share(j));
      }
    }
  for (std::size_t k = 0; k < dx.size(); ++k) compare(static_cast<double>(p.dx[k]), dx[k]);
  CHECK(worst < tolerance);
}

}  // namespace

TEST_CASE("Softmax of groups of channels agrees with its definition") {
  check_softmax<Softmax<1>, 3, 0, 3, 1, double>(1, 1e-15);
  check_softmax<Softmax<5>, 15, 0, 15, 5, double>(1, 1e-15);
  check_softmax<Softmax<16>, 32, 0, 32, 16, double>(1, 1e-15);
  check_softmax<Softmax<37>, 37, 0, 37, 37, double>(1, 1e-15);
  check_softmax<SoftmaxOfSlice<8>, 18, 1, 16, 8, double>(1, 1e-15);
  check_softmax<Softmax<16>, 48, 0, 48, 16, float>(1, 3e-7);
  check_softmax<SoftmaxOfSlice<23>, 48, 1, 46, 23, float>(1, 3e-7);
}

TEST_CASE("Softmax of large numbers neither overflows nor loses its sum") {
  check_softmax<Softmax<16>, 32, 0, 32, 16, double>(1000, 1e-15);
  check_softmax<Softmax<16>, 32, 0, 32, 16, float>(1000, 3e-7);
  check_softmax<Softmax<5>, 15, 0, 15, 5, float>(1e4, 3e-7);
}

}  // namespace mad::testing
