// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "delta_net_plain.hpp"
#include "start.hpp"

#include <mad/layers/gated_delta_net.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using O = GatedDeltaNetOptions;
namespace plain = testing::plain;

/// Three value heads on one of queries and keys.
using Shared = GatedDeltaNetLayer<O{
    .heads = 2, .value_heads = 6, .head_width = 4, .expand_v = 0.75, .conv = 2, .negative_eigenvalues = true}>;

constexpr Graph at_128 = build_graph<GatedDeltaNet, 128>(all_passes);
// q and k; v, gate and o; a and b of 4 heads; convolutions; A_log, dt_bias and the norm of a head of 32
static_assert(parameter_count(at_128, 1) ==
              2 * 64 * 128 + 3 * 128 * 128 + 2 * 4 * 128 + (64 + 64 + 128) * 4 + 4 + 4 + 32);
static_assert(state_size(at_128, 1000) == 2048 + 3 * (64 + 64 + 128));
static_assert(GatedDeltaNet::name == "gated-delta-net" && GatedDeltaNet::shorthand == "Gdn");

plain::Rows forward(const plain::Parameters& p, const plain::Rows& tokens, const plain::DeltaSizes& z, bool gated,
                    double reach) {
  plain::Rows beta, decay;
  for (const plain::Row& x : tokens) {
    plain::Row b = plain::linear(x, p["b_proj.weight"]), a = plain::linear(x, p["a_proj.weight"]);
    for (std::size_t h = 0; h < z.heads; ++h) {
      b[h] = reach * plain::sigmoid(b[h]);
      a[h] = -std::exp(p["A_log"][h]) * plain::softplus(a[h] + p["dt_bias"][h]);
    }
    beta.push_back(b);
    decay.push_back(a);
  }
  return plain::delta_net(p, tokens, z, beta, decay, gated);
}

}  // namespace

TEST_CASE("Gated DeltaNet is the loop of its formulas") {
  plain::check<GatedDeltaNet, 64>(13, [](const auto& p, const auto& x) {
    return forward(p, x, {2, 2, 16, 32, 4}, true, 1);
  });
  plain::check<Shared, 10>(13, [](const auto& p, const auto& x) { return forward(p, x, {2, 6, 4, 3, 2}, true, 2); });
}

TEST_CASE("Gated DeltaNet starts with its rates and time steps in their ranges") {
  constexpr Graph g = build_graph<GatedDeltaNetLayer<O{.heads = 1, .value_heads = 128}>, 32>(all_passes);
  std::vector<double> rate = testing::start_of(g, "A_log");
  for (double& a : rate) a = std::exp(a);
  testing::check_range(rate, 0, 16);
  // Log-uniform: the logarithms fill their range evenly.
  std::vector<double> step = testing::start_of(g, "dt_bias");
  for (double& b : step) b = std::log(std::log1p(std::exp(b)));
  testing::check_range(step, std::log(0.001) - 1e-9, std::log(0.1) + 1e-9);
  int marked = 0;
  for (int i = 0; i < g.parameter_count; ++i) {
    const Parameter& p = g.parameters[i];
    if (p.name.view() != "A_log" && p.name.view() != "dt_bias") continue;
    CHECK(!p.decay);
    CHECK(p.role == Role::other);  // no backbone resets it
    ++marked;
  }
  CHECK(marked == 2);
}

TEST_CASE("Gated DeltaNet is proved") { REQUIRE(testing::check_layer<Shared, 10>()); }

}  // namespace mad
