// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/rational_filter.hpp>

#include "catch.hpp"

#include <Eigen/LU>

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <vector>

using mad::Index;
using mad::View;
using mad::cpu::RationalFilterSizes;
using mad::cpu::Workspace;

namespace {

using Numbers = std::vector<double>;
std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// The filters and their gradients in the time domain, without transforms: the response folded modulo M solves
/// (delta + a) conv h = b, where conv is circular, one dense system per channel.
struct Reference {
  Numbers h, d_ab, d_h_0;

  Reference(Index length, const RationalFilterSizes& sizes, const Numbers& ab, const Numbers& h_0, const Numbers& dh) {
    const Index M = sizes.points, N = sizes.states, C = sizes.channels, A = sizes.denominators;
    h.assign(z(length * C), 0);
    d_ab.assign(ab.size(), 0);
    d_h_0.assign(z(C), 0);
    for (Index c = 0; c < C; ++c) {
      const Index g = c * A / C;
      Eigen::MatrixXd system = Eigen::MatrixXd::Identity(M, M);
      Eigen::VectorXd right = Eigen::VectorXd::Zero(M), gradient = Eigen::VectorXd::Zero(M);
      for (Index j = 1; j <= N; ++j) {
        for (Index t = 0; t < M; ++t) system((t + j) % M, t) += ab[z(g * N + j - 1)];
        right(j % M) += ab[z((A + c) * N + j - 1)];
      }
      const Eigen::PartialPivLU<Eigen::MatrixXd> solver(system);
      const Eigen::VectorXd response = solver.solve(right);
      for (Index t = 0; t < length; ++t) {
        h[z(t * C + c)] = response(t) + (t == 0 ? h_0[z(c)] : 0);
        gradient(t) = dh[z(t * C + c)];
      }
      d_h_0[z(c)] = gradient(0);
      const Eigen::VectorXd d_right = solver.transpose().solve(gradient);
      for (Index j = 1; j <= N; ++j) {
        d_ab[z((A + c) * N + j - 1)] = d_right(j % M);
        for (Index t = 0; t < M; ++t) d_ab[z(g * N + j - 1)] -= d_right((t + j) % M) * response(t);
      }
    }
  }
};

void check(const std::string& what, const Numbers& found, const Numbers& expected, double offset, double tolerance) {
  INFO(what);
  double scale = 1, error = 0;
  for (double x : expected) scale = std::max(scale, std::abs(x));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(found[i] - offset - expected[i]);
    error = std::isfinite(difference) ? std::max(error, difference) : INFINITY;
  }
  CHECK(error / scale < tolerance);
}

template <class T>
void compare(Index length, const RationalFilterSizes& sizes, double tolerance) {
  INFO("length " << length << ", points " << sizes.points << ", channels " << sizes.channels << ", denominators "
                 << sizes.denominators << ", states " << sizes.states);
  const Index C = sizes.channels, A = sizes.denominators, N = sizes.states;
  std::mt19937 generator(1);
  std::normal_distribution<double> normal;
  const auto draw = [&](Index count, double scale) {
    Numbers result(z(count));
    for (double& x : result) x = static_cast<double>(static_cast<float>(scale * normal(generator)));
    return result;
  };
  Numbers ab = draw((A + C) * N, 0.3 / std::sqrt(static_cast<double>(N)));
  ab[0] = 2.5;  // a pole far outside of the unit circle: the folded response exists all the same
  const Numbers h_0 = draw(C, 1), dh = draw(length * C, 1);
  const Reference expected(length, sizes, ab, h_0, dh);

  const std::vector<T> ab_values(ab.begin(), ab.end()), h_0_values(h_0.begin(), h_0.end());
  constexpr Index gap = 3;
  const Index stride = C + gap;
  std::vector<T> h(z(length * stride), T(77)), dh_rows(z(length * stride), T(77));
  for (Index t = 0; t < length; ++t)
    for (Index c = 0; c < C; ++c) dh_rows[z(t * stride + c)] = static_cast<T>(dh[z(t * C + c)]);
  std::vector<T> d_ab(ab.size(), T(1)), d_h_0(h_0.size(), T(1));
  Workspace workspace;
  {  // kernels must not rely on what scratch memory holds
    Workspace::Frame frame(workspace);
    std::fill_n(frame.take<T>(1 << 18), 1 << 18, std::numeric_limits<T>::quiet_NaN());
  }
  mad::cpu::rational_filter_forward<T>(length, sizes, ab_values.data(), h_0_values.data(), {h.data(), stride},
                                       workspace);
  mad::cpu::rational_filter_backward<T>(length, sizes, ab_values.data(), {dh_rows.data(), stride}, d_ab.data(),
                                        d_h_0.data(), workspace);
  Numbers packed;
  for (Index t = 0; t < length; ++t) {
    for (Index c = 0; c < C; ++c) packed.push_back(static_cast<double>(h[z(t * stride + c)]));
    for (Index c = C; c < stride; ++c) REQUIRE(h[z(t * stride + c)] == T(77));
  }
  check("h", packed, expected.h, 0, tolerance);
  check("d_ab", Numbers(d_ab.begin(), d_ab.end()), expected.d_ab, 1, tolerance);
  check("d_h_0", Numbers(d_h_0.begin(), d_h_0.end()), expected.d_h_0, 1, tolerance);
}

}  // namespace

TEST_CASE("A chirp transform is the discrete Fourier transform") {
  using L = mad::cpu::Lanes<double>;
  for (const Index m : {1, 2, 3, 4, 7, 12, 31, 128, 130, 1000}) {
    for (const Index inputs : {Index{1}, (m + 1) / 2, m}) {
      INFO("m " << m << ", inputs " << inputs);
      Workspace workspace;
      Workspace::Frame frame(workspace);
      const Index outputs = std::max<Index>(1, m - m / 3);
      mad::cpu::ChirpTransform<double> transform(m, inputs, outputs, frame);
      const auto x = [](Index j) { return std::complex<double>(std::sin(3.0 + 7.0 * double(j)), std::cos(double(j))); };
      transform.run([&](Index j) { return mad::cpu::ComplexPacket<double>{L::all(x(j).real()), L::all(x(j).imag())}; });
      double error = 0;
      for (Index k = 0; k < outputs; ++k) {
        std::complex<double> sum = 0;
        for (Index j = 0; j < inputs; ++j)
          sum += x(j) * std::polar(1.0, -2 * std::numbers::pi * double(j * k % m) / double(m));
        double re[L::size], im[L::size];
        L::store(re, transform[k].re);
        L::store(im, transform[k].im);
        error = std::max({error, std::abs(sum - std::complex(re[0], im[0])),
                          std::abs(sum - std::complex(re[L::size - 1], im[L::size - 1]))});
      }
      CHECK(error < 1e-12 * std::sqrt(double(m)) * 4);
    }
  }
}

TEST_CASE("Rational filters are impulse responses folded modulo the number of points") {
  struct Case {
    Index length;
    RationalFilterSizes sizes;
  };
  // Shared denominators; one channel; more channels than two registers hold; lengths below the number of points; points
  // that are no power of two; coefficients that wrap around.
  const Case cases[] = {
      {1, {1, 1, 1, 2}},     {2, {3, 1, 1, 2}},      {1, {2, 2, 5, 2}},      {7, {4, 2, 3, 8}},
      {24, {35, 35, 4, 24}}, {24, {32, 8, 4, 24}},   {9, {17, 17, 6, 30}},   {37, {5, 1, 9, 38}},
      {50, {8, 4, 20, 50}},  {64, {16, 16, 64, 64}}, {130, {6, 3, 16, 130}}, {100, {2, 2, 150, 130}},
  };
  for (const Case& c : cases) {
    compare<double>(c.length, c.sizes, 1e-12);
    compare<float>(c.length, c.sizes, 1e-4);
  }
}

TEST_CASE("Rational filters on a long grid") { compare<double>(640, {2, 1, 16, 640}, 1e-12); }

TEST_CASE("The number of points of rational filters is even") {
  STATIC_REQUIRE(mad::cpu::rational_filter_points(1) == 2);
  STATIC_REQUIRE(mad::cpu::rational_filter_points(24) == 24);
  STATIC_REQUIRE(mad::cpu::rational_filter_points(1281) == 1282);
}
