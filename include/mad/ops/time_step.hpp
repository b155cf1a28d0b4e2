// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The time step of a selective scan: softplus of a linear map.
#pragma once

#include <mad/ops/linear.hpp>

namespace mad {

namespace ops {

/// A linear map, and softplus.
constexpr double time_step_flops(const Graph& g, const Node& n, Index length) {
  return linear_flops(g, n, length) + n.width;
}

/// Operands x (rows, R), W (one, I * R), b (one, I): dt = softplus(step), step = x W^T + b (rows, I).
///
/// What comes back to it is the gradient of step, not that of dt: d_step = d_dt softplus'(step) = d_dt (1 - exp(-dt)),
/// which `selective_scan_gradient_op` gives, with dt and d_dt at hand. So the rule is that of a linear map, and step
/// itself is kept nowhere. No product for passes over the graph: softplus comes behind it, so that nothing can be added
/// to its result, and what reads it does not read a product.
inline constexpr Operation time_step_op{.name = "time step", .adjoint = &linear_adjoint, .flops = &time_step_flops};

}  // namespace ops

/// The time steps of a `selective_scan`, and nothing else's operand: gradients that come back to them are those of what
/// they are softplus of.
struct TimeStep {
  Value dt;
};

/// softplus(x W^T + b); x (rows, R), W (one, I x R), b (one, I).
constexpr TimeStep time_step(Value x, Value weight, Value bias, int line = __builtin_LINE()) {
  const Value dt = linear(x, weight, bias, line);
  x.graph->nodes[dt.id].op = &ops::time_step_op;
  return {dt};
}

}  // namespace mad
