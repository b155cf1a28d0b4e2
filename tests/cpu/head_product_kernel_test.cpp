// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "worst_error.hpp"

#include <mad/cpu/kernels/head_product.hpp>

#include <cmath>
#include <random>
#include <vector>

using mad::Index;
using mad::cpu::HeadMapSizes;
using mad::cpu::TwoHeadMaps;
using mad::cpu::Workspace;
using mad::testing::worst_error;

namespace {

std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// The product, head by head, in double; rows lie `gap` further apart than they are wide.
template <Index Out, class T>
void check(Index rows, Index heads, Index in, Index gap) {
  CAPTURE(sizeof(T), rows, heads, in, Out, gap);
  std::mt19937 generator(5);
  std::normal_distribution<double> normal;
  const auto draw = [&](Index count) {
    std::vector<T> values(z(count));
    for (T& v : values) v = static_cast<T>(normal(generator));
    return values;
  };
  const Index wide_in = heads * in + gap, wide_out = heads * Out + gap;
  const std::vector<T> x = draw(rows * wide_in), dy = draw(rows * wide_out);
  const std::vector<T> weight[2] = {draw(Out * in), draw(Out * in)}, bias[2] = {draw(Out), draw(Out)};
  std::vector<double> y(dy.size(), 7), dx(x.size(), 7);
  std::vector<double> d_weight[2] = {std::vector<double>(z(Out * in), 2), std::vector<double>(z(Out * in), 3)};
  std::vector<double> d_bias[2] = {std::vector<double>(z(Out), 4), std::vector<double>(z(Out), 5)};
  for (Index r = 0; r < rows; ++r)
    for (Index h = 0; h < heads; ++h) {
      const auto at = [&](Index j) { return z(r * wide_in + h * in + j); };
      for (Index j = 0; j < in; ++j) dx[at(j)] = 0;
      for (Index i = 0; i < Out; ++i) {
        const std::size_t to = z(r * wide_out + h * Out + i);
        double factor[2];
        for (int m = 0; m < 2; ++m) {
          factor[m] = static_cast<double>(bias[m][z(i)]);
          for (Index j = 0; j < in; ++j)
            factor[m] += static_cast<double>(weight[m][z(i * in + j)]) * static_cast<double>(x[at(j)]);
        }
        y[to] = factor[0] * factor[1];
        for (int m = 0; m < 2; ++m) {
          const double g = static_cast<double>(dy[to]) * factor[1 - m];
          d_bias[m][z(i)] += g;
          for (Index j = 0; j < in; ++j) {
            d_weight[m][z(i * in + j)] += g * static_cast<double>(x[at(j)]);
            dx[at(j)] += g * static_cast<double>(weight[m][z(i * in + j)]);
          }
        }
      }
    }
  Workspace workspace;
  const HeadMapSizes sizes{heads, in, Out};
  const TwoHeadMaps<const T> maps{weight[0].data(), bias[0].data(), weight[1].data(), bias[1].data()};
  std::vector<T> found_y(y.size(), T(7)), found_dx(dx.size(), T(7));
  std::vector<T> found_weight[2] = {std::vector<T>(z(Out * in), T(2)), std::vector<T>(z(Out * in), T(3))};
  std::vector<T> found_bias[2] = {std::vector<T>(z(Out), T(4)), std::vector<T>(z(Out), T(5))};
  mad::cpu::head_product_forward<Out, T>(rows, sizes, {x.data(), wide_in}, maps, {found_y.data(), wide_out}, workspace);
  mad::cpu::head_product_backward<Out, T>(
      rows, sizes, {dy.data(), wide_out}, {x.data(), wide_in}, maps, {found_dx.data(), wide_in},
      {found_weight[0].data(), found_bias[0].data(), found_weight[1].data(), found_bias[1].data()}, workspace);
  const double bound = sizeof(T) == 4 ? 1e-5 : 1e-14;
  CHECK(worst_error(found_y, y) < bound);
  CHECK(worst_error(found_dx, dx) < bound);
  for (int m = 0; m < 2; ++m) {
    CAPTURE(m);
    CHECK(worst_error(found_weight[m], d_weight[m]) < bound);
    CHECK(worst_error(found_bias[m], d_bias[m]) < bound);
  }
}

template <Index Out>
void check_all(Index heads, Index in) {
  for (const Index gap : {0, 5})
    for (const Index rows : {1, 7, 300}) {
      check<Out, double>(rows, heads, in, gap);
      check<Out, float>(rows, heads, in, gap);
    }
}

}  // namespace

TEST_CASE("A product of two maps shared by heads agrees with one product per head") {
  check_all<1>(1, 1);
  check_all<4>(5, 4);
  check_all<8>(16, 8);
  check_all<7>(3, 5);
  check_all<12>(4, 32);
  check_all<32>(2, 32);
  check_all<19>(1, 3);
}
