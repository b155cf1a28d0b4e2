// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/cpu/kernels/long_conv.hpp>

#include <cmath>
#include <random>
#include <vector>

using mad::Index;
using mad::View;
using mad::cpu::LongConv;
using mad::cpu::LongConvMethod;

namespace {

std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// A matrix whose rows lie further apart than they are wide, with a mark in the gap.
template <class T>
struct Matrix {
  static constexpr Index gap = 3;
  static constexpr T mark = T(77);
  Index rows, width;
  std::vector<T> values;

  Matrix(Index rows_, Index width_) : rows(rows_), width(width_), values(z(rows * (width + gap)), mark) {}
  template <class Source>
  Matrix(Index rows_, Index width_, Source&& source) : Matrix(rows_, width_) {
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < width; ++c) (*this)(r, c) = static_cast<T>(source());
    }
  }
  T& operator()(Index r, Index c) { return values[z(r * (width + gap) + c)]; }
  T operator()(Index r, Index c) const { return values[z(r * (width + gap) + c)]; }
  View<T> view() { return {values.data(), width + gap}; }
  View<const T> view() const { return {values.data(), width + gap}; }
  bool gaps_intact() const {
    for (Index r = 0; r < rows; ++r) {
      for (Index c = width; c < width + gap; ++c) {
        if ((*this)(r, c) != mark) return false;
      }
    }
    return true;
  }
};

template <class T>
double distance(const Matrix<T>& found, const Matrix<double>& expected) {
  double worst = 0, largest = 1e-300;
  for (Index r = 0; r < expected.rows; ++r) {
    for (Index c = 0; c < expected.width; ++c) {
      worst = std::max(worst, std::abs(static_cast<double>(found(r, c)) - expected(r, c)));
      largest = std::max(largest, std::abs(expected(r, c)));
    }
  }
  return std::isnan(worst) ? INFINITY : worst / largest;
}

struct Case {
  Index batch, length, channels, filter_width;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "batch " << c.batch << " length " << c.length << " channels " << c.channels << " filters "
             << c.filter_width;
}

struct Expected {
  Matrix<double> y, d_u, d_h, d_skip;
};

/// The defining sums.
Expected convolve(const Case& k, const Matrix<double>& u, const Matrix<double>& h, const Matrix<double>& skip,
                  const Matrix<double>& d_y) {
  const auto zero = [] { return 0.0; };
  Expected e{{k.batch * k.length, k.channels, zero},
             {k.batch * k.length, k.channels, zero},
             {k.length, k.filter_width, zero},
             {1, k.filter_width, zero}};
  for (Index b = 0; b < k.batch; ++b) {
    for (Index c = 0; c < k.channels; ++c) {
      const Index f = c % k.filter_width;
      for (Index t = 0; t < k.length; ++t) {
        const Index row = b * k.length + t;
        for (Index s = 0; s <= t; ++s) {
          const Index source = b * k.length + s;
          e.y(row, c) += h(t - s, f) * u(source, c);
          e.d_u(source, c) += h(t - s, f) * d_y(row, c);
          e.d_h(t - s, f) += u(source, c) * d_y(row, c);
        }
        e.y(row, c) += skip(0, f) * u(row, c);
        e.d_u(row, c) += skip(0, f) * d_y(row, c);
        e.d_skip(0, f) += u(row, c) * d_y(row, c);
      }
    }
  }
  return e;
}

template <class T>
Matrix<T> rounded(const Matrix<double>& x) {
  Matrix<T> result(x.rows, x.width);
  for (Index r = 0; r < x.rows; ++r) {
    for (Index c = 0; c < x.width; ++c) result(r, c) = static_cast<T>(x(r, c));
  }
  return result;
}

template <class T>
void check(const Case& k, LongConvMethod method, double tolerance) {
  std::mt19937 generator(static_cast<unsigned>(k.length * 1000 + k.channels));
  std::normal_distribution<double> normal;
  const auto draw = [&] { return static_cast<double>(static_cast<T>(normal(generator))); };
  const Index tokens = k.batch * k.length;
  const Matrix<double> u(tokens, k.channels, draw), d_y(tokens, k.channels, draw);
  const Matrix<double> h(k.length, k.filter_width, draw), skip(1, k.filter_width, draw);
  const Expected expected = convolve(k, u, h, skip, d_y);

  const Matrix<T> u_t = rounded<T>(u), d_y_t = rounded<T>(d_y), h_t = rounded<T>(h), skip_t = rounded<T>(skip);
  const auto one = [] { return 1.0; };
  Matrix<T> y(tokens, k.channels, one), d_u(tokens, k.channels, one), d_h(k.length, k.filter_width, one);
  Matrix<T> d_skip(1, k.filter_width, one);
  mad::cpu::Workspace workspace;
  const LongConv<T> conv(k.length, k.channels, k.filter_width, method);
  std::vector<T> prepared(z(conv.prepared_size() + 1), T(77));
  conv.prepare(h_t.view(), skip_t.values.data(), prepared.data(), workspace);
  CHECK(prepared.back() == T(77));
  conv.forward(k.batch, u_t.view(), prepared.data(), y.view(), workspace);
  conv.backward(k.batch, u_t.view(), prepared.data(), d_y_t.view(), d_u.view(), d_h.view(), d_skip.values.data(),
                workspace);
  // Parameter gradients were added to ones.
  for (Index f = 0; f < k.filter_width; ++f) {
    for (Index t = 0; t < k.length; ++t) d_h(t, f) -= T(1);
    d_skip(0, f) -= T(1);
  }
  CHECK(distance(y, expected.y) < tolerance);
  CHECK(distance(d_u, expected.d_u) < tolerance);
  CHECK(distance(d_h, expected.d_h) < tolerance);
  CHECK(distance(d_skip, expected.d_skip) < 10 * tolerance);
  CHECK((y.gaps_intact() && d_u.gaps_intact() && d_h.gaps_intact() && d_skip.gaps_intact()));
}

const Case cases[] = {
    {1, 1, 1, 1},     {2, 1, 5, 5},    {3, 2, 16, 16},   {1, 3, 17, 17},   {2, 5, 33, 33},   {2, 8, 8, 1},
    {3, 9, 40, 40},   {2, 16, 24, 1},  {5, 17, 48, 16},  {2, 31, 18, 6},   {1, 33, 12, 4},   {2, 63, 16, 16},
    {2, 64, 35, 35},  {3, 65, 20, 20}, {2, 100, 7, 7},   {1, 127, 19, 19}, {4, 128, 32, 32}, {2, 129, 4, 4},
    {2, 255, 16, 16}, {3, 256, 9, 9},  {2, 257, 48, 24}, {1, 512, 3, 3},   {2, 777, 5, 5},   {2, 1024, 16, 16},
};

}  // namespace

TEST_CASE("the Toeplitz product is the causal convolution", "[cpu][long_conv]") {
  for (const Case& k : cases) {
    CAPTURE(k);
    check<double>(k, LongConvMethod::direct, 1e-13);
    check<float>(k, LongConvMethod::direct, 3e-6);
  }
}

TEST_CASE("convolution by transforms is the causal convolution", "[cpu][long_conv]") {
  for (const Case& k : cases) {
    CAPTURE(k);
    check<double>(k, LongConvMethod::transform, 1e-13);
    check<float>(k, LongConvMethod::transform, 3e-6);
  }
}

TEST_CASE("the method follows the length", "[cpu][long_conv]") {
  for (const Index length : {1, 7, 32, 48, 59, 65, 90, 129, 135})
    CHECK(LongConv<float>(length, 8, 8).method() == LongConvMethod::direct);
  for (const Index length : {60, 64, 91, 127, 128, 136, 256, 1024}) {
    CHECK(LongConv<float>(length, 8, 8).method() == LongConvMethod::transform);
  }
}

TEST_CASE("a long convolution of no size is refused", "[cpu][long_conv]") {
  CHECK_THROWS_AS(LongConv<float>(0, 8, 8), mad::UsageError);
  CHECK_THROWS_AS(LongConv<float>(8, 0, 8), mad::UsageError);
  CHECK_THROWS_AS(LongConv<float>(8, 8, 0), mad::UsageError);
}

TEST_CASE("a convolution without skip keeps its filter as it is", "[cpu][long_conv]") {
  for (const LongConvMethod method : {LongConvMethod::direct, LongConvMethod::transform}) {
    mad::cpu::Workspace workspace;
    const LongConv<double> conv(4, 2, 2, method);
    const std::vector<double> h = {1, 10, 2, 20, 3, 30, 4, 40};
    std::vector<double> impulse(8);  // not a list: g++ 12 turns {1, 1, 0, 0, 0, 0, 0, 0} into ones with AVX-512
    impulse[0] = impulse[1] = 1;
    std::vector<double> prepared(z(conv.prepared_size())), y(8), d_u(8), d_h(8);
    conv.prepare({h.data(), 2}, nullptr, prepared.data(), workspace);
    conv.forward(1, {impulse.data(), 2}, prepared.data(), {y.data(), 2}, workspace);
    conv.backward(1, {impulse.data(), 2}, prepared.data(), {h.data(), 2}, {d_u.data(), 2}, {d_h.data(), 2}, nullptr,
                  workspace);
    for (std::size_t i = 0; i < 8; ++i) {
      CHECK(y[i] == Approx(h[i]).margin(1e-13));
      CHECK(d_h[i] == Approx(h[i]).margin(1e-13));  // dh[k] = sum_s dy[s+k] u[s]
    }
  }
}
