// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"
#include "plain.hpp"
#include "start.hpp"

#include <mad/layers/gated_linear_attention.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

#include <cmath>
#include <string_view>

namespace mad {

namespace {

using O = GatedLinearAttentionOptions;
namespace plain = testing::plain;

template <class L>
constexpr Graph graph_of = build_graph<L, 128>(all_passes);

static_assert(parameter_count(graph_of<SingleHeadGLA>, 1) == 86272);
static_assert(parameter_count(graph_of<GLA>, 1) == 86160);
static_assert(state_size(graph_of<SingleHeadGLA>, 1000) == 128 * 128);
static_assert(state_size(graph_of<GLA>, 1000) == 8 * 16 * 16);
static_assert(SingleHeadGLA::name == "gated-linear-attention" && SingleHeadGLA::shorthand == "Alg");
static_assert(GLA::name == "mh-gated-linear-attention" && GLA::shorthand == "mAlg");

// A bound in the midst of the log gates' values, so that some are clamped and some are not.
using Clamped = GatedLinearAttention<O{.head_width = 4,
                                       .gate_rank = 3,
                                       .gate_normaliser = 2,
                                       .clamp_min = -0.36,
                                       .eps = 1e-3,
                                       .gate = OutputGate::sigmoid}>;

/// The formulas for heads of width 4 and the options of `Clamped`.
plain::Rows forward(const plain::Parameters& p, const plain::Rows& x) {
  const std::size_t width = x[0].size();
  std::vector<double> S(width * 4, 0.0);  // S[j][d]: key channel j of head j / 4, value channel d of that head
  const plain::Row bias = p["gk_proj.1.bias"];
  plain::Rows y;
  for (const plain::Row& token : x) {
    const plain::Row q = plain::linear(token, p["q_proj.weight"]);
    const plain::Row k = plain::linear(token, p["k_proj.weight"]);
    const plain::Row v = plain::linear(token, p["v_proj.weight"]);
    const plain::Row g = plain::linear(token, p["g_proj.weight"]);
    const plain::Row gk = plain::linear(plain::linear(token, p["gk_proj.0.weight"]), p["gk_proj.1.weight"]);
    plain::Row o(width, 0.0);
    for (std::size_t j = 0; j < width; ++j) {
      const double log_gate = std::max(std::log(plain::sigmoid(gk[j] + bias[j])) / 2, -0.36);
      for (std::size_t d = 0; d < 4; ++d) {
        double& s = S[j * 4 + d];
        s = std::exp(log_gate) * s + k[j] * v[j / 4 * 4 + d];
        o[j / 4 * 4 + d] += q[j] * s / 2;
      }
    }
    o = plain::rms_norm(o, 4, p["g_norm.weight"], 1e-3);
    for (std::size_t c = 0; c < width; ++c) o[c] *= plain::sigmoid(g[c]);
    y.push_back(plain::linear(o, p["o_proj.weight"]));
  }
  return y;
}

}  // namespace

TEST_CASE("gated linear attention agrees with the reference") {
  using testing::check_golden;
  check_golden<SingleHeadGLA, 32>("gated-linear-attention_d32_l7", 64);
  check_golden<GatedLinearAttention<O{.heads = 4, .gate_rank = 4}>, 32>("mh-gated-linear-attention_d32_l24", 64);
  check_golden<
      GatedLinearAttention<O{.heads = 3, .expand_k = 0.5, .expand_v = 2, .gate_rank = 4, .gate_normaliser = 4}>, 24>(
      "mh-gated-linear-attention_expand_d24_l24", 64);
  check_golden<GatedLinearAttention<O{.heads = 2, .gate_rank = 4, .fuse_norm = true}>, 16>(
      "mh-gated-linear-attention_fused_d16_l24", 64);
}

TEST_CASE("gated linear attention with a bound of the gates and a sigmoid gate is the loop of its formulas") {
  plain::check<Clamped, 8>(9, [](const auto& p, const auto& x) { return forward(p, x); });
  REQUIRE(testing::check_layer<Clamped, 8>());
}

TEST_CASE("the maps of gated linear attention start with their gain") {
  // 2^(-5/2) sqrt(6 / (in + out)), of square maps and of the gate's two factors
  testing::check_range(testing::start_of(graph_of<GLA>, "q_proj.weight"), -std::sqrt(6.0 / 256 / 32),
                       std::sqrt(6.0 / 256 / 32));
  testing::check_range(testing::start_of(graph_of<GLA>, "gk_proj.0.weight"), -std::sqrt(6.0 / 144 / 32),
                       std::sqrt(6.0 / 144 / 32));
  testing::check_range(testing::start_of(graph_of<GLA>, "gk_proj.1.bias"), -0.25, 0.25);
}

}  // namespace mad
