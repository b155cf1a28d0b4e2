// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "plain.hpp"

#include <mad/layers/retnet.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using O = RetNetOptions;
namespace plain = testing::plain;

constexpr Graph at_128 = build_graph<RetNet, 128>(all_passes);
static_assert(parameter_count(at_128, 1) == (2 * 128 + 3 * 256) * 128 + 16);  // and a norm of width dv
static_assert(state_size(at_128, 1000) == 2048);
static_assert(RetNet::name == "retnet" && RetNet::shorthand == "Rn");

/// Channels j and j + d/2 of each head as a pair, turned by t base^(-2j/d).
plain::Row rotated(const plain::Row& x, std::size_t head_width, std::size_t t, double base) {
  plain::Row y = x;
  const std::size_t half = head_width / 2;
  for (std::size_t head = 0; head < x.size(); head += head_width) {
    for (std::size_t j = 0; j < half; ++j) {
      const double frequency = std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(head_width));
      const double angle = static_cast<double>(t) * frequency;
      const double a = x[head + j];
      const double b = x[head + half + j];
      y[head + j] = a * std::cos(angle) - b * std::sin(angle);
      y[head + half + j] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
  return y;
}

/// S_t = gamma_h S_{t-1} + k_t^T v_t,  o_t = q_t S_t / sqrt(dk),  gamma_h = 1 - 2^(-5-h), then norm and gate.
plain::Rows forward(const plain::Parameters& p, const plain::Rows& x, std::size_t heads, double base, double eps) {
  const std::size_t dk = p["q_proj.weight"].size() / x[0].size() / heads;
  const std::size_t dv = p["v_proj.weight"].size() / x[0].size() / heads;
  std::vector<double> S(heads * dk * dv, 0.0);
  plain::Rows y;
  for (std::size_t t = 0; t < x.size(); ++t) {
    const plain::Row q = rotated(plain::linear(x[t], p["q_proj.weight"]), dk, t, base);
    const plain::Row k = rotated(plain::linear(x[t], p["k_proj.weight"]), dk, t, base);
    const plain::Row v = plain::linear(x[t], p["v_proj.weight"]);
    const plain::Row g = plain::linear(x[t], p["g_proj.weight"]);
    plain::Row o(heads * dv, 0.0);
    for (std::size_t h = 0; h < heads; ++h) {
      const double gamma = 1 - std::pow(2.0, -5.0 - static_cast<double>(h));
      for (std::size_t j = 0; j < dk; ++j) {
        for (std::size_t d = 0; d < dv; ++d) {
          double& s = S[(h * dk + j) * dv + d];
          s = gamma * s + k[h * dk + j] * v[h * dv + d];
          o[h * dv + d] += q[h * dk + j] * s / std::sqrt(static_cast<double>(dk));
        }
      }
    }
    o = plain::rms_norm(o, dv, p["g_norm_swish_gate.weight"], eps);
    for (std::size_t c = 0; c < o.size(); ++c) o[c] *= plain::silu(g[c]);
    y.push_back(plain::linear(o, p["o_proj.weight"]));
  }
  return y;
}

}  // namespace

TEST_CASE("RetNet is the loop of its formulas") {
  plain::check<RetNet, 32>(6, [](const auto& p, const auto& x) { return forward(p, x, 4, 10000, 1e-5); });
  plain::check<RetNetLayer<O{.heads = 3, .expand_k = 0.5, .expand_v = 1, .rotary_base = 50, .eps = 1e-2}>, 12>(
      6, [](const auto& p, const auto& x) { return forward(p, x, 3, 50, 1e-2); });
}

TEST_CASE("RetNet is proved") { REQUIRE(testing::check_layer<RetNet, 16>()); }

}  // namespace mad
