// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "worst_error.hpp"

#include <mad/cpu/kernels/linear_heads.hpp>

#include <cmath>
#include <random>
#include <vector>

using mad::Index;
using mad::View;
using mad::cpu::HeadMapSizes;
using mad::cpu::Workspace;
using mad::testing::worst_error;

namespace {

std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// The map, head by head, in double; rows lie `gap` further apart than they are wide.
template <class T>
void check(Index rows, const HeadMapSizes& sizes, Index gap, bool with_bias) {
  CAPTURE(sizeof(T), rows, sizes.heads, sizes.in, sizes.out, gap, with_bias);
  std::mt19937 generator(3);
  std::normal_distribution<double> normal;
  const auto draw = [&](Index count) {
    std::vector<T> values(z(count));
    for (T& v : values) v = static_cast<T>(normal(generator));
    return values;
  };
  const Index wide_in = sizes.heads * sizes.in + gap, wide_out = sizes.heads * sizes.out + gap;
  const std::vector<T> x = draw(rows * wide_in), weight = draw(sizes.out * sizes.in), bias = draw(sizes.out);
  const std::vector<T> dy = draw(rows * wide_out), before = draw(rows * wide_in);
  std::vector<double> y(dy.size(), 7), dx(x.size(), 7), more(x.size()), dW(weight.size(), 2);
  for (std::size_t k = 0; k < more.size(); ++k) more[k] = static_cast<double>(before[k]);
  for (Index r = 0; r < rows; ++r)
    for (Index h = 0; h < sizes.heads; ++h) {
      const auto in = [&](Index j) { return z(r * wide_in + h * sizes.in + j); };
      for (Index j = 0; j < sizes.in; ++j) dx[in(j)] = 0;
      for (Index i = 0; i < sizes.out; ++i) {
        const std::size_t to = z(r * wide_out + h * sizes.out + i);
        y[to] = with_bias ? static_cast<double>(bias[z(i)]) : 0.0;
        for (Index j = 0; j < sizes.in; ++j) {
          const double w = static_cast<double>(weight[z(i * sizes.in + j)]), g = static_cast<double>(dy[to]);
          y[to] += w * static_cast<double>(x[in(j)]);
          dx[in(j)] += w * g;
          more[in(j)] += w * g;
          dW[z(i * sizes.in + j)] += g * static_cast<double>(x[in(j)]);
        }
      }
    }
  Workspace workspace;
  std::vector<T> found_y(y.size(), T(7)), found_dx(dx.size(), T(7)), found_more = before, found_dW(dW.size(), T(2));
  mad::cpu::linear_heads_forward<T>(rows, sizes, {x.data(), wide_in}, weight.data(), with_bias ? bias.data() : nullptr,
                                    {found_y.data(), wide_out}, workspace);
  mad::cpu::linear_heads_input_gradient<T>(rows, sizes, {dy.data(), wide_out}, weight.data(), false,
                                           {found_dx.data(), wide_in}, workspace);
  mad::cpu::linear_heads_input_gradient<T>(rows, sizes, {dy.data(), wide_out}, weight.data(), true,
                                           {found_more.data(), wide_in}, workspace);
  mad::cpu::linear_heads_weight_gradient<T>(rows, sizes, {dy.data(), wide_out}, {x.data(), wide_in}, found_dW.data(),
                                            workspace);
  const double bound = sizeof(T) == 4 ? 3e-6 : 1e-14;
  CHECK(worst_error(found_y, y) < bound);
  CHECK(worst_error(found_dx, dx) < bound);
  CHECK(worst_error(found_more, more) < bound);
  CHECK(worst_error(found_dW, dW) < bound);
}

}  // namespace

TEST_CASE("A map shared by heads agrees with one product per head") {
  for (const Index gap : {0, 5})
    for (const bool bias : {false, true})
      for (const HeadMapSizes& sizes : {HeadMapSizes{1, 1, 1}, HeadMapSizes{1, 32, 32}, HeadMapSizes{2, 8, 8},
                                        HeadMapSizes{16, 8, 8}, HeadMapSizes{3, 16, 16}, HeadMapSizes{3, 5, 7},
                                        HeadMapSizes{12, 3, 2}, HeadMapSizes{4, 12, 40}, HeadMapSizes{6, 20, 3}})
        for (const Index rows : {1, 7, 130}) {
          check<double>(rows, sizes, gap, bias);
          check<float>(rows, sizes, gap, bias);
        }
}
