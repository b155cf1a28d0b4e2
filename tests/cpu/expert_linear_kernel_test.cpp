// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "worst_error.hpp"

#include <mad/cpu/kernels/expert_linear.hpp>

#include <cmath>
#include <random>
#include <vector>

using mad::Index;
using mad::View;
using mad::cpu::ExpertLinearGradients;
using mad::cpu::ExpertLinearSizes;
using mad::cpu::Workspace;
using mad::testing::worst_error;

namespace {

std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// Against the outputs of all experts, formed one by one in double; rows lie `gap` further apart than they are wide.
template <class T>
void check(Index rows, const ExpertLinearSizes& sizes, Index gap, bool with_bias) {
  CAPTURE(sizeof(T), rows, sizes.experts, sizes.in, sizes.out, gap, with_bias);
  std::mt19937 generator(3);
  std::normal_distribution<double> normal;
  const auto draw = [&](Index count) {
    std::vector<T> values(z(count));
    for (T& v : values) v = static_cast<T>(normal(generator));
    return values;
  };
  const Index in = sizes.in, out = sizes.out, E = sizes.experts;
  const Index x_stride = in + gap, p_stride = E + gap, y_stride = out + gap;
  const std::vector<T> x = draw(rows * x_stride), p = draw(rows * p_stride), dy = draw(rows * y_stride);
  const std::vector<T> weight = draw(out * E * in), bias = draw(out * E);
  std::vector<double> y(dy.size(), 7), dx(x.size(), 7), dp(p.size(), 7), dW(weight.size(), 2), db(bias.size(), 2);
  for (Index r = 0; r < rows; ++r) {
    for (Index j = 0; j < in; ++j) dx[z(r * x_stride + j)] = 0;
    for (Index e = 0; e < E; ++e) dp[z(r * p_stride + e)] = 0;
    for (Index i = 0; i < out; ++i) {
      const double g = static_cast<double>(dy[z(r * y_stride + i)]);
      double mean = 0;
      for (Index e = 0; e < E; ++e) {
        const Index row = i * E + e;
        const double share = static_cast<double>(p[z(r * p_stride + e)]);
        double output = with_bias ? static_cast<double>(bias[z(row)]) : 0;
        for (Index j = 0; j < in; ++j) {
          const double w = static_cast<double>(weight[z(row * in + j)]),
                       input = static_cast<double>(x[z(r * x_stride + j)]);
          output += w * input;
          dx[z(r * x_stride + j)] += share * w * g;
          dW[z(row * in + j)] += share * input * g;
        }
        mean += share * output;
        dp[z(r * p_stride + e)] += g * output;
        if (with_bias) db[z(row)] += share * g;
      }
      y[z(r * y_stride + i)] = mean;
    }
  }
  Workspace workspace;
  std::vector<T> found_y(y.size(), T(7)), found_dx(dx.size(), T(7)), found_dp(dp.size(), T(7));
  std::vector<T> found_dW(dW.size(), T(2)), found_db(db.size(), T(2));
  const View<const T> x_view{x.data(), x_stride}, p_view{p.data(), p_stride};
  const T* b = with_bias ? bias.data() : nullptr;
  mad::cpu::expert_linear_forward<T>(rows, sizes, x_view, p_view, weight.data(), b, {found_y.data(), y_stride},
                                     workspace);
  mad::cpu::expert_linear_backward<T>(rows, sizes, {dy.data(), y_stride}, x_view, p_view, weight.data(), b,
                                      {.x = {found_dx.data(), x_stride},
                                       .p = {found_dp.data(), p_stride},
                                       .weight = found_dW.data(),
                                       .bias = with_bias ? found_db.data() : nullptr},
                                      workspace);
  const double bound = sizeof(T) == 4 ? 5e-6 : 1e-14;
  CHECK(worst_error(found_y, y) < bound);
  CHECK(worst_error(found_dx, dx) < bound);
  CHECK(worst_error(found_dp, dp) < bound);
  CHECK(worst_error(found_dW, dW) < bound);
  CHECK(worst_error(found_db, db) < bound);
}

}  // namespace

TEST_CASE("The mean of experts agrees with experts run one by one") {
  for (const Index gap : {0, 3})
    for (const bool bias : {false, true}) {
      for (const ExpertLinearSizes& sizes : {ExpertLinearSizes{1, 1, 1}, ExpertLinearSizes{2, 5, 3},
                                             ExpertLinearSizes{8, 32, 16}, ExpertLinearSizes{3, 19, 33}})
        for (const Index rows : {1, 7}) {
          check<double>(rows, sizes, gap, bias);
          check<float>(rows, sizes, gap, bias);
        }
      check<double>(1100, {3, 4, 5}, gap, bias);  // several rounds, the last one shorter
      check<float>(1100, {3, 4, 5}, gap, bias);
    }
}
