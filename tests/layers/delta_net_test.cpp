// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "delta_net_plain.hpp"

#include <mad/layers/delta_net.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using O = DeltaNetOptions;
namespace plain = testing::plain;

using Gated = DeltaNetLayer<O{
    .heads = 3, .expand_k = 0.5, .expand_v = 1.25, .conv = 3, .output_gate = true, .negative_eigenvalues = true}>;

constexpr Graph at_128 = build_graph<DeltaNet, 128>(all_passes);
// q, k, v, o, beta of 8 heads, three convolutions, the norm of a head of 16
static_assert(parameter_count(at_128, 1) == 4 * 128 * 128 + 8 * 128 + 3 * 128 * 4 + 16);
static_assert(state_size(at_128, 1000) == 2048 + 3 * 3 * 128);  // states, and the convolutions' last inputs
static_assert(DeltaNet::name == "delta-net" && DeltaNet::shorthand == "Dn");

plain::Rows forward(const plain::Parameters& p, const plain::Rows& tokens, const plain::DeltaSizes& z, bool gated,
                    double reach) {
  const plain::Rows beta = plain::each(tokens, [&](const plain::Row& x) {
    plain::Row b = plain::linear(x, p["b_proj.weight"]);
    for (double& v : b) v = reach * plain::sigmoid(v);
    return b;
  });
  return plain::delta_net(p, tokens, z, beta, {}, gated);
}

}  // namespace

TEST_CASE("DeltaNet is the loop of its formulas") {
  plain::check<DeltaNet, 32>(9, [](const auto& p, const auto& x) {
    return forward(p, x, {2, 2, 16, 16, 4}, false, 1);
  });
  plain::check<
      DeltaNetLayer<O{
          .heads = 3, .expand_k = 0.5, .expand_v = 1.25, .conv = 3, .output_gate = true, .negative_eigenvalues = true}>,
      12>(10, [](const auto& p, const auto& x) {
    return forward(p, x, {3, 3, 2, 5, 3}, true, 2);
  });
}

TEST_CASE("DeltaNet is proved") { REQUIRE(testing::check_layer<DeltaNet, 32>()); }

TEST_CASE("DeltaNet with gate and negative eigenvalues is proved") {
  REQUIRE(testing::check_layer<Gated, 12, testing::PlannerProof::none>());
}

}  // namespace mad
