// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Heads of length 1.
#pragma once

#include <mad/core/constant_math.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/norm.hpp>

namespace mad {

/// x / sqrt(sum x^2 + eps) of each head of `head_width` channels by itself. There is nothing to learn: it is the
/// RMSNorm with weight 1/sqrt(head_width) and eps / head_width.
constexpr Value l2_norm_heads(Value x, int head_width, double eps, int line = __builtin_LINE()) {
  if (x.width() % head_width != 0) x.graph->fail(Fault::not_divisible, x.width(), head_width, line);
  const Value weight = zeros(*x.graph, Domain::one, head_width) + 1 / square_root(head_width);
  const Value y = ops::make(*x.graph, ops::norm_op, x.domain(), x.width(), x, weight);
  Node& n = x.graph->nodes[y.id];
  n.attribute[ops::norm::group_width] = head_width;
  n.attribute[ops::norm::centred] = 0;
  n.number[0] = eps / head_width;
  return y;
}

}  // namespace mad
