// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/gated_scan.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using mad::Index;
using mad::Shape;
using mad::cpu::ScanSizes;
using mad::testing::StridedRows;

/// What a gated scan reads, and what its time steps are softplus of; the gradient of its output.
template <class T>
struct Rows {
  StridedRows<T> u, step, dt, a, b, c, skip, gate, d_out;

  Rows(const Shape& shape, const ScanSizes& s, std::mt19937& random)
      : u(shape.tokens(), s.channels, random),
        step(shape.tokens(), s.channels, random, -6, 3),
        dt(shape.tokens(), s.channels),
        a(1, s.channels * s.states, random, -3, -0.1),
        b(shape.tokens(), s.states, random),
        c(shape.tokens(), s.states, random),
        skip(1, s.channels, random),
        gate(shape.tokens(), s.channels, random, -4, 4),
        d_out(shape.tokens(), s.channels, random) {
    for (Index r = 0; r < shape.tokens(); ++r)
      for (Index i = 0; i < s.channels; ++i)
        dt.view().row(r)[i] = static_cast<T>(std::log1p(std::exp(static_cast<double>(step.view().row(r)[i]))));
  }

  mad::cpu::GatedScanOperands<T> operands() const {
    return {.scan = {.u = u.view(),
                     .dt = dt.view(),
                     .a = a.view().data,
                     .b = b.view(),
                     .c = c.view(),
                     .skip = skip.view().data},
            .gate = gate.view()};
  }
};

template <class T>
void expect_near(const StridedRows<T>& found, const StridedRows<T>& expected, double tolerance) {
  found.check_token(expected, 0, 1, tolerance);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Against the plain scan, with the gate behind it and the slope of softplus before it element by element.
template <int States, class T>
void check(const Shape& shape, const ScanSizes& sizes, double tolerance, bool keeps = false) {
  INFO("batch " << shape.batch << ", length " << shape.length << ", channels " << sizes.channels << ", states "
                << sizes.states << (keeps ? ", states kept" : ""));
  std::mt19937 random(7);
  const Rows<T> in(shape, sizes, random);
  const Index rows = shape.tokens(), channels = sizes.channels, states = sizes.states;
  const auto for_all = [&](const auto& body) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < channels; ++c) body(r, c);
  };
  StridedRows<T> y(rows, channels), d_y(rows, channels);
  for_all([&](Index r, Index c) {
    const double z = in.gate.view().row(r)[c];
    d_y.view().row(r)[c] = static_cast<T>(in.d_out.view().row(r)[c] * z * sigmoid(z));
  });
  const mad::cpu::ScanOperands<T> plain = in.operands().scan;
  const auto vector = [](Index size) { return std::vector<T>(static_cast<std::size_t>(size), T(1)); };
  struct Found {
    StridedRows<T> u, dt, b, c;
    std::vector<T> a, skip;
    mad::cpu::ScanGradients<T> gradients() { return {u.view(), dt.view(), a.data(), b.view(), c.view(), skip.data()}; }
  };
  const auto empty = [&] {
    return Found{StridedRows<T>(rows, channels), StridedRows<T>(rows, channels), StridedRows<T>(rows, states),
                 StridedRows<T>(rows, states),   vector(channels * states),      vector(channels)};
  };
  mad::cpu::Workspace workspace;
  Found expected = empty(), found = empty();
  StridedRows<T> out(rows, channels), d_gate(rows, channels), expected_out(rows, channels),
      expected_d_gate(rows, channels);
  mad::cpu::selective_scan_forward<States, T>(shape, sizes, plain, y.view(), workspace);
  mad::cpu::selective_scan_backward<States, T>(shape, sizes, plain, std::as_const(d_y).view(), expected.gradients(),
                                               workspace);
  for_all([&](Index r, Index c) {
    const double z = in.gate.view().row(r)[c], s = sigmoid(z);
    expected_out.view().row(r)[c] = static_cast<T>(y.view().row(r)[c] * z * s);
    expected_d_gate.view().row(r)[c] =
        static_cast<T>(in.d_out.view().row(r)[c] * y.view().row(r)[c] * (s + z * s * (1 - s)));
    expected.dt.view().row(r)[c] *= static_cast<T>(sigmoid(in.step.view().row(r)[c]));
  });
  // Room for states every 8 tokens is more than enough; what is not kept must not be read.
  std::vector<T> states_kept(static_cast<std::size_t>(rows * channels * states), std::numeric_limits<T>::quiet_NaN());
  const Index room = keeps ? static_cast<Index>(states_kept.size()) : 0;
  mad::cpu::gated_scan_forward<States, T>(shape, sizes, in.operands(), out.view(), workspace, nullptr,
                                          {states_kept.data(), room});
  mad::cpu::gated_scan_backward<States, T>(shape, sizes, in.operands(), in.d_out.view(),
                                           {.scan = found.gradients(), .gate = d_gate.view()}, workspace,
                                           {states_kept.data(), room});
  expect_near(out, expected_out, tolerance);
  expect_near(d_gate, expected_d_gate, tolerance);
  expect_near(found.u, expected.u, tolerance);
  expect_near(found.dt, expected.dt, tolerance);
  expect_near(found.b, expected.b, 10 * tolerance);
  expect_near(found.c, expected.c, 10 * tolerance);
  const double more = 100 * tolerance;  // sums over all tokens
  for (std::size_t i = 0; i < found.a.size(); ++i) REQUIRE(std::abs(found.a[i] - expected.a[i]) <= more);
  for (std::size_t i = 0; i < found.skip.size(); ++i) REQUIRE(std::abs(found.skip[i] - expected.skip[i]) <= more);
}

}  // namespace

TEST_CASE("a gated scan is a scan before silu, and gives the gradient of what its time steps are softplus of",
          "[cpu][selective_scan]") {
  check<4, double>({1, 1, 1}, {1, 4}, 1e-13);
  check<4, double>({3, 30, 30}, {21, 4}, 1e-13);
  for (const bool keeps : {false, true}) {
    check<16, double>({2, 300, 300}, {32, 16}, 1e-12, keeps);
    check<4, double>({3, 600, 600}, {21, 4}, 1e-12, keeps);
    check<0, double>({2, 17, 17}, {40, 3}, 1e-13, keeps);
    check<4, float>({2, 128, 128}, {40, 4}, 2e-5, keeps);
    check<16, float>({2, 300, 300}, {32, 16}, 5e-5, keeps);
  }
}
