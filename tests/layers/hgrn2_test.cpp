// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "plain.hpp"

#include <mad/layers/hgrn2.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using O = HGRN2Options;
namespace plain = testing::plain;

constexpr Graph at_128 = build_graph<HGRN2, 128>(all_passes);
static_assert(parameter_count(at_128, 1) == 4 * 128 * 128 + 128);
static_assert(state_size(at_128, 1000) == 2048);
static_assert(HGRN2::name == "hgrn2" && HGRN2::shorthand == "Hg");

/// S_t = diag(f_t) S_{t-1} + (1 - f_t)^T i_t,  o_t = q_t S_t / sqrt(e), then the norm over all channels.
plain::Rows forward(const plain::Parameters& p, const plain::Rows& x, std::size_t e, double bound) {
  const std::size_t width = x[0].size();
  std::vector<double> S(width * e, 0.0);  // S[j][d]: key channel j of head j / e, value channel d of that head
  plain::Rows y;
  for (const plain::Row& token : x) {
    const plain::Row q = plain::linear(token, p["q_proj.weight"]);
    const plain::Row f = plain::linear(token, p["f_proj.weight"]);
    const plain::Row i = plain::linear(token, p["i_proj.weight"]);
    plain::Row o(width, 0.0);
    for (std::size_t j = 0; j < width; ++j) {
      const double gate = bound + (1 - bound) * plain::sigmoid(f[j]);
      for (std::size_t d = 0; d < e; ++d) {
        const std::size_t channel = j / e * e + d;
        double& s = S[j * e + d];
        s = gate * s + (1 - gate) * i[channel];
        o[channel] += plain::silu(q[j]) * s / std::sqrt(static_cast<double>(e));
      }
    }
    y.push_back(plain::linear(plain::rms_norm(o, width, p["g_norm.weight"], 1e-5), p["o_proj.weight"]));
  }
  return y;
}

}  // namespace

TEST_CASE("HGRN2 is the loop of its formulas") {
  plain::check<HGRN2, 32>(5, [](const auto& p, const auto& x) { return forward(p, x, 16, 0); });
  plain::check<HGRN2Layer<O{.expand = 4, .lower_bound = 0.6}>, 12>(
      5, [](const auto& p, const auto& x) { return forward(p, x, 4, 0.6); });
}

TEST_CASE("HGRN2 is proved") { REQUIRE(testing::check_layer<HGRN2, 16>()); }

TEST_CASE("HGRN2 with a lower bound is proved") {
  REQUIRE(testing::check_layer<HGRN2Layer<O{.expand = 3, .lower_bound = 0.25}>, 6, testing::PlannerProof::none>());
}

}  // namespace mad
