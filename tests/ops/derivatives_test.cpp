// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <catch.hpp>
#include <cmath>
#include <numbers>

namespace mad::testing {

namespace {

using Real = long double;

template <Value (*F)(Value)>
struct Apply {
  static constexpr std::string_view name = "apply";
  static constexpr Value forward(Value x) { return F(x); }
};

/// One column, so that every argument of the table is a token: F's gradient times dy is `derivative`.
template <Value (*F)(Value), class Derivative>
void check(const char* name, const std::vector<double>& arguments, Derivative derivative, double digits = 8) {
  const auto count = static_cast<Index>(arguments.size());
  const std::vector<double> dy = ramp<double>(count, 0.11, -1.6);
  const Passes<double> p = run_layer<Apply<F>, 1, double>({1, count, count}, arguments, dy);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const Real expected = dy[i] * derivative(static_cast<Real>(arguments[i]));
    INFO(name << " at " << arguments[i]);
    CHECK(std::abs(p.dx[i] - expected) <= digits * 2.3e-16L * std::max(std::abs(expected), Real(std::abs(dy[i]))));
  }
}

const std::vector<double> anywhere = {0.0,  -0.0, 1e-9,  -1e-9, 0.3,   -0.3, 1.0,   -1.0,  2.5,    -2.5, 6.0,
                                      -6.0, 18.0, -18.0, 37.0,  -37.0, 80.0, -80.0, 500.0, -500.0, 1e4,  -1e4};
const std::vector<double> moderate = {0.0, 1e-9, -1e-9, 0.3, -0.3, 1.0, -1.0, 2.5, -2.5, 6.0, -6.0, 30.0, -30.0};
const std::vector<double> positive = {1e-8, 0.01, 0.3, 1.0, 2.5, 40.0, 1e5};

Real sigmoid_of(Real a) { return 1 / (1 + std::exp(-a)); }
Real cosh_of(Real a) { return std::cosh(std::min(std::abs(a), Real(5000))); }

}  // namespace

TEST_CASE("Derivatives of elementwise operations are those of calculus") {
  check<mad::exp>("exp", moderate, [](Real a) { return std::exp(a); });
  check<mad::log>("log", positive, [](Real a) { return 1 / a; });
  check<mad::sqrt>("sqrt", positive, [](Real a) { return 0.5L / std::sqrt(a); });
  check<mad::square>("square", anywhere, [](Real a) { return 2 * a; });
  check<mad::sigmoid>("sigmoid", anywhere, [](Real a) { return sigmoid_of(a) * sigmoid_of(-a); });
  check<mad::tanh>("tanh", anywhere, [](Real a) { return 1 / (cosh_of(a) * cosh_of(a)); });
  check<mad::softplus>("softplus", anywhere, [](Real a) { return sigmoid_of(a); });
  check<mad::sin>("sin", anywhere, [](Real a) { return std::cos(a); });
  check<mad::cos>("cos", anywhere, [](Real a) { return -std::sin(a); });
  // At the kink both are 0, as in the reference's framework.
  check<mad::relu>("relu", anywhere, [](Real a) { return a > 0 ? Real(1) : Real(0); });
  check<mad::abs>("abs", anywhere, [](Real a) { return a > 0 ? Real(1) : a < 0 ? Real(-1) : Real(0); });
}

TEST_CASE("Derivatives of the units are those of calculus") {
  check<mad::silu>(
      "silu", anywhere, [](Real a) { return sigmoid_of(a) * (1 + a * sigmoid_of(-a)); }, 24);
  check<mad::gelu>("gelu", anywhere, [](Real a) {
    const Real density = std::exp(-a * a / 2) / std::sqrt(2 * std::numbers::pi_v<Real>);
    return 0.5L * std::erfc(-a / std::numbers::sqrt2_v<Real>) + a * density;
  });
  check<mad::gelu_tanh>(
      "gelu_tanh", moderate,
      [](Real a) {
        const Real c = std::sqrt(2 / std::numbers::pi_v<Real>);
        const Real inner = c * (a + 0.044715L * a * a * a);
        const Real slope = c * (1 + 3 * 0.044715L * a * a);
        return 0.5L * (1 + std::tanh(inner)) + 0.5L * a * slope / (cosh_of(inner) * cosh_of(inner));
      },
      16);
}

namespace {

struct Arithmetic {
  static constexpr std::string_view name = "arithmetic";
  static constexpr Value forward(Value x) {
    const Value a = slice(x, 0, 1);
    const Value b = slice(x, 1, 1);
    return concat(a + b, a - b, a * b, a / b, 2.0 * a - 3.0, 4.0 - b, -a, 5.0 + b);
  }
};

}  // namespace

TEST_CASE("Derivatives of arithmetic are those of calculus") {
  const std::vector<double> x = {1.5, -0.75, -2.0, 0.5};
  const std::vector<double> dy = {0.3, -0.7, 1.1, 0.9, -0.2, 0.4, 0.6, -1.3, 1.0, 2.0, -3.0, 0.1, 0.5, -0.6, 0.8, 0.25};
  const Passes<double> p = run_layer<Arithmetic, 2, double>({1, 2, 2}, x, dy);
  for (std::size_t t = 0; t < 2; ++t) {
    const double a = x[2 * t];
    const double b = x[2 * t + 1];
    const double y[] = {a + b, a - b, a * b, a / b, 2 * a - 3, 4 - b, -a, 5 + b};
    for (std::size_t c = 0; c < 8; ++c) CHECK(p.y[8 * t + c] == Approx(y[c]).epsilon(1e-15));
    const double* d = &dy[8 * t];
    CHECK(p.dx[2 * t] == Approx(d[0] + d[1] + d[2] * b + d[3] / b + 2 * d[4] - d[6]).epsilon(1e-14));
    CHECK(p.dx[2 * t + 1] == Approx(d[0] - d[1] + d[2] * a - d[3] * a / (b * b) - d[5] + d[7]).epsilon(1e-14));
  }
}

}  // namespace mad::testing
