// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/packets/pack.hpp>
#include <mad/ops/elementwise.hpp>

#include <catch.hpp>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace mad {

namespace {

using Real = long double;

/// Arguments: zeros of both signs, both sides of every branch, tails, and where exponentials leave the number range.
const std::vector<double> table = {0.0,  -0.0,  1e-30, -1e-30, 1e-8, -1e-8, 0.1, -0.1, 0.5,  -0.5,  1.0,  -1.0,
                                   1.7,  -1.7,  3.0,   -3.0,   5.0,  -5.0,  7.9, -7.9, 12.0, -12.0, 20.0, -20.0,
                                   40.0, -40.0, 80.0,  -80.0,  86.0, -86.0, 1e2, -1e2, 1e3,  -1e3,  1e4,  -1e4};

template <class T>
T as_float(double a) {
  return static_cast<T>(a);
}

/// `found` is `expected` up to `digits` roundings of T, of the expected number or of `scale`, whichever is larger.
/// Numbers too small to be normal may become 0, and those too large infinite or the largest one.
template <class T>
bool close(T found, Real expected, Real scale, Real digits) {
  constexpr Real largest = std::numeric_limits<T>::max();
  if (std::abs(expected) > largest) return std::abs(found) > 0.9L * largest && (found > 0) == (expected > 0);
  const Real rounding = digits * std::numeric_limits<T>::epsilon();
  const Real floor = std::numeric_limits<T>::min();
  return std::abs(static_cast<Real>(found) - expected) <= rounding * std::max(std::abs(expected), scale) + floor;
}

/// The formula for single numbers and for packs, at every argument for which `defined` holds.
template <const Operation* Op, class T, class Expected, class Scale, class Defined>
void check_formula(double c, Real digits, Expected expected, Scale scale, Defined defined) {
  using cpu::Pack;
  INFO(Op->name << (sizeof(T) == 4 ? ", float" : ", double"));
  std::vector<T> arguments;
  for (double a : table)
    if (defined(a)) arguments.push_back(as_float<T>(a));
  while (arguments.size() % static_cast<std::size_t>(Pack<T>::size) != 0) arguments.push_back(T(1));
  for (std::size_t i = 0; i < arguments.size(); i += static_cast<std::size_t>(Pack<T>::size)) {
    T packed[Pack<T>::size];
    ops::Formula<Op>::template apply<Pack<T>>(c, Pack<T>::load(&arguments[i])).store(packed);
    for (std::size_t k = 0; k < static_cast<std::size_t>(Pack<T>::size); ++k) {
      const T a = arguments[i + k];
      const T single = ops::Formula<Op>::template apply<T>(c, a);
      const Real exact = expected(static_cast<Real>(a));
      INFO("at " << a << ": a single number gives " << single << ", a pack " << packed[k] << ", expected " << exact);
      CHECK(close<T>(single, exact, scale(static_cast<Real>(a)), digits));
      CHECK(close<T>(packed[k], exact, scale(static_cast<Real>(a)), digits));
    }
  }
  // What is not a number stays so: a run that diverges must show it.
  if constexpr (Op != &ops::step_op) {
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    T packed[Pack<T>::size];
    ops::Formula<Op>::template apply<Pack<T>>(c, Pack<T>::all(nan)).store(packed);
    CHECK(std::isnan(packed[0]));
    CHECK(std::isnan(ops::Formula<Op>::template apply<T>(c, nan)));
  }
}

constexpr auto anywhere = [](double) { return true; };
constexpr auto positive = [](double a) { return a > 0; };
constexpr auto no_scale = [](Real) { return Real(0); };
constexpr auto of_one = [](Real) { return Real(1); };
constexpr auto of_argument = [](Real a) { return std::abs(a); };

template <const Operation* Op, class Expected, class Scale = decltype(no_scale), class Defined = decltype(anywhere)>
void check(Real digits, Expected expected, Scale scale = no_scale, Defined defined = anywhere, double c = 0) {
  check_formula<Op, double>(c, digits, expected, scale, defined);
  check_formula<Op, float>(c, digits, expected, scale, defined);
}

Real normal_cdf(Real a) { return 0.5L * std::erfc(-a / std::numbers::sqrt2_v<Real>); }
Real normal_density(Real a) { return std::exp(-a * a / 2) / std::sqrt(2 * std::numbers::pi_v<Real>); }

}  // namespace

TEST_CASE("Elementwise formulas are those of the standard library") {
  using namespace ops;
  check<&scale_op>(
      1, [](Real a) { return 0.75L * a; }, no_scale, anywhere, 0.75);
  check<&shift_op>(
      1, [](Real a) { return a - 1.25L; }, no_scale, anywhere, -1.25);
  check<&exp_op>(4, [](Real a) { return std::exp(a); });
  check<&log_op>(
      4, [](Real a) { return std::log(a); }, of_one, positive);
  check<&sqrt_op>(
      1, [](Real a) { return std::sqrt(a); }, no_scale, positive);
  check<&square_op>(1, [](Real a) { return a * a; });
  check<&sigmoid_op>(6, [](Real a) { return 1 / (1 + std::exp(-a)); });
  check<&tanh_op>(8, [](Real a) { return std::tanh(a); });
  check<&softplus_op>(6, [](Real a) { return std::max(a, Real(0)) + std::log1p(std::exp(-std::abs(a))); });
  check<&sin_op>(
      4, [](Real a) { return std::sin(a); }, of_one);
  check<&cos_op>(
      4, [](Real a) { return std::cos(a); }, of_one);
  check<&relu_op>(0, [](Real a) { return a > 0 ? a : 0; });
  check<&step_op>(0, [](Real a) { return a > 0 ? Real(1) : Real(0); });
  check<&abs_op>(0, [](Real a) { return std::abs(a); });
  check<&gelu_op>(
      4, [](Real a) { return a * normal_cdf(a); }, of_argument);
  check<&gelu_gradient_op>(
      4, [](Real a) { return normal_cdf(a) + a * normal_density(a); }, of_one);
}

TEST_CASE("Formulas of two operands are those of arithmetic") {
  using namespace ops;
  for (double a : table) {
    for (double b : {-3.0, -0.25, 1e-8, 1.5, 7.0}) {
      CHECK(Formula<&add_op>::apply<double>(0, a, b) == a + b);
      CHECK(Formula<&subtract_op>::apply<double>(0, a, b) == a - b);
      CHECK(Formula<&multiply_op>::apply<double>(0, a, b) == a * b);
      CHECK(Formula<&divide_op>::apply<double>(0, a, b) == a / b);
      using P = cpu::Pack<float>;
      const auto x = static_cast<float>(a);
      const auto y = static_cast<float>(b);
      const auto last = [](P p) {
        float values[P::size];
        p.store(values);
        return values[P::size - 1];
      };
      CHECK(last(Formula<&add_op>::apply<P>(0, P::all(x), P::all(y))) == x + y);
      CHECK(last(Formula<&subtract_op>::apply<P>(0, P::all(x), P::all(y))) == x - y);
      CHECK(last(Formula<&multiply_op>::apply<P>(0, P::all(x), P::all(y))) == x * y);
      CHECK(last(Formula<&divide_op>::apply<P>(0, P::all(x), P::all(y))) == x / y);
    }
  }
}

}  // namespace mad
