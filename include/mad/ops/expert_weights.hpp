// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Weights of a mixture of experts from the scores of its router.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

/// What becomes of the experts whose score is below the k-th largest.
enum class Routing {
  published,  ///< their score is set to 0, so that they keep the weight exp(0) / Z: what the reference computes
  intended,   ///< they are left out: weight 0
};

namespace ops {

/// Attributes of an expert weights node and of its gradient.
namespace expert_weights {
enum Attribute { active, routing };
}

constexpr void expert_weights_adjoint(Differentiator& d, int node);
/// A comparison with every other score; then a softmax.
constexpr double expert_weights_flops(const Graph&, const Node& n, Index) { return (n.width + 6.0) * n.width; }

/// Operand scores (rows, E); output the experts' weights p (rows, E).
inline constexpr Operation expert_weights_op{
    .name = "expert weights", .adjoint = &expert_weights_adjoint, .flops = &expert_weights_flops};
/// Operands dp, p, scores (rows, E); output the gradient of the scores.
inline constexpr Operation expert_weights_gradient_op{.name = "expert weights gradient", .in_place = 0};

//   kept experts:   ds_e = p_e (dp_e - sum_f dp_f p_f), f over all experts;   dropped experts:   ds_e = 0
constexpr void expert_weights_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value dp = d.adjoint(node);
  const Value ds =
      make(*dp.graph, expert_weights_gradient_op, n.domain, n.width, dp, d.forward(node), d.operand(node, 0));
  for (int i = 0; i < Node::max_attributes; ++i) ds.graph->nodes[ds.id].attribute[i] = n.attribute[i];
  d.add(n.operand[0], ds);
}

}  // namespace ops

/// The experts' weights from the router's scores (rows, E). With theta the \p active-th largest score of the row, an
/// expert is kept if its score is at least theta (ties are all kept); the weights are the softmax of the scores after
/// those of the others were set to 0 (`Routing::published`) or left out (`Routing::intended`). The gradient takes theta
/// for a constant; the scores of dropped experts get none.
constexpr Value expert_weights(Value scores, int active, Routing routing = Routing::published,
                               int line = __builtin_LINE()) {
  if (active < 1 || active > scores.width()) scores.graph->fail(Fault::bad_option, active, scores.width(), line);
  const Value p = ops::make(*scores.graph, ops::expert_weights_op, scores.domain(), scores.width(), scores);
  Node& n = scores.graph->nodes[p.id];
  n.attribute[ops::expert_weights::active] = active;
  n.attribute[ops::expert_weights::routing] = static_cast<int>(routing);
  return p;
}

}  // namespace mad
