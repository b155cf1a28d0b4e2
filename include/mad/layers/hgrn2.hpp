// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// HGRN2: a gated linear recurrence whose state is expanded by an outer product.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/norm.hpp>

namespace mad {

struct HGRN2Options {
  int expand = 16;         ///< e, head width of gates and values; H = D / e
  double lower_bound = 0;  ///< of the gates, in [0, 1): no channel forgets faster. The paper raises it with depth
  double eps = 1e-5;       ///< of the norm
};

/// HGRN2 (Qin et al. 2024, arXiv 2404.07904, section 3): gates f_t = lb + (1 - lb) sigmoid(f_proj x_t), the keys are
/// what the gates let go of, per head
///
///     q = silu(q_proj x),   i = i_proj x,   k_t = 1 - f_t
///     S_t = diag(f_t) S_{t-1} + k_t^T i_t,   o_t = q_t S_t / sqrt(e)
///
/// then an RMSNorm over the whole width, and the output projection.
///
/// The paper learns the lower bounds of all layers together, as a cumulative softmax over depth, 0 for the first; here
/// the bound is a number per layer. State per sequence: D e numbers, 2,048 at width 128.
template <HGRN2Options O>
struct HGRN2Layer {
  static_assert(O.expand > 0, "mad: hgrn2: expand is the width of a head, at least 1");
  static_assert(O.lower_bound >= 0 && O.lower_bound < 1, "mad: hgrn2: lower_bound is a bound of gates, in [0, 1)");

  static constexpr std::string_view name = "hgrn2";
  static constexpr std::string_view shorthand = "Hg";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    if (D % O.expand != 0) {
      x.graph->fail(Fault::not_divisible, D, O.expand, __builtin_LINE());
      return x;
    }
    const Value q = silu(linear(x, D, "q_proj"));
    const Value f = linear(x, D, "f_proj");
    const Value i = linear(x, D, "i_proj");
    const Value k = (1 - O.lower_bound) * sigmoid(-f);
    const Value o =
        linear_recurrence(q, k, i, log_gate(f), {.heads = D / O.expand, .scale = 1 / square_root(O.expand)});
    const Value normed = [&] {
      Scope scope(x, "g_norm");
      return rms_norm(o, O.eps);
    }();
    return linear(normed, D, "o_proj");
  }

private:
  static constexpr Value log_gate(Value f) {
    if constexpr (O.lower_bound == 0)
      return -softplus(-f);  // finite where the sigmoid underflows
    else
      return log((1 - O.lower_bound) * sigmoid(f) + O.lower_bound);
  }
};

struct HGRN2 : HGRN2Layer<HGRN2Options{}> {};

}  // namespace mad
