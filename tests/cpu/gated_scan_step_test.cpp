// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/gated_scan.hpp>

namespace {

using mad::Index;
using mad::testing::StridedRows;

struct Case {
  Index batch, length;
  mad::cpu::ScanSizes sizes;
};

/// Every token by itself against whole sequences.
template <int States, class T>
void check(const Case& c, double tolerance) {
  const mad::cpu::ScanSizes& s = c.sizes;
  INFO("batch " << c.batch << ", length " << c.length << ", channels " << s.channels << ", states " << s.states);
  std::mt19937 random(6);
  const Index rows = c.batch * c.length;
  const StridedRows<T> u(rows, s.channels, random), dt(rows, s.channels, random, 0.01, 1.3),
      gate(rows, s.channels, random), a(1, s.channels * s.states, random, -3, -0.1), b(rows, s.states, random),
      m(rows, s.states, random), skip(1, s.channels, random);
  StridedRows<T> expected(rows, s.channels);
  mad::cpu::Workspace workspace;
  const auto operands = [&](const auto& u_of, const auto& dt_of, const auto& b_of, const auto& m_of,
                            const auto& gate_of) {
    return mad::cpu::GatedScanOperands<T>{.scan = {.u = u_of.view(),
                                                   .dt = dt_of.view(),
                                                   .a = a.view().data,
                                                   .b = b_of.view(),
                                                   .c = m_of.view(),
                                                   .skip = skip.view().data},
                                          .gate = gate_of.view()};
  };
  mad::cpu::gated_scan_forward<States, T>({c.batch, c.length, c.length}, s, operands(u, dt, b, m, gate),
                                          expected.view(), workspace);
  std::vector<T> state(static_cast<std::size_t>(c.batch * mad::cpu::selective_scan_step_state(s)));
  for (Index t = 0; t < c.length; ++t) {
    const StridedRows<T> u_t = u.token(t, c.length), dt_t = dt.token(t, c.length), b_t = b.token(t, c.length),
                         m_t = m.token(t, c.length), gate_t = gate.token(t, c.length);
    StridedRows<T> found(c.batch, s.channels);
    mad::cpu::gated_scan_step<States, T>(c.batch, s, operands(u_t, dt_t, b_t, m_t, gate_t), found.view(), state.data(),
                                         workspace);
    found.check_token(expected, t, c.length, tolerance);
  }
}

}  // namespace

TEST_CASE("a selective scan of one token after the other is that of whole sequences") {
  check<4, double>({1, 1, {.channels = 1, .states = 4}}, 1e-14);
  check<4, double>({3, 30, {.channels = 21, .states = 4}}, 1e-14);
  check<16, double>({2, 300, {.channels = 32, .states = 16}}, 1e-13);
  check<0, double>({2, 17, {.channels = 40, .states = 3}}, 1e-14);
  check<16, float>({2, 300, {.channels = 32, .states = 16}}, 1e-5);
}

TEST_CASE("a selective scan keeps its states") {
  CHECK(mad::cpu::selective_scan_step_state({.channels = 12, .states = 4}) == 48);
}
