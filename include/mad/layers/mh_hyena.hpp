// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Multi-head Hyena: long convolutions of outer products.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/layers/hyena_filter.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/short_conv.hpp>
#include <mad/ops/toeplitz_attention.hpp>

namespace mad {

struct MultiHeadHyenaOptions {
  int head_width = 16;        ///< M; there are inner / M heads (the reference calls this width num_heads)
  int inner_factor = 1;       ///< inner width / D
  int projection_groups = 4;  ///< the input projection is that much narrower and is tiled
  int short_filter = 3;       ///< taps of the depthwise convolution after the projection
  FilterKind filter_kind = FilterKind::implicit;
  FilterOptions filter{.order = 2};
  RationalFilterOptions rational{};
};

/// Multi-head Hyena (Massaroli et al. 2023, arXiv 2310.18780) as in the reference. Per head g of M channels, with one
/// filter h_g for all M x M products:
///
///     y_j = sum_i q_i (h_g conv (v_i k_j) + bias_g v_i k_j)
///
/// which is attention without softmax, y_t = sum_{s<=t} h_g[t-s] (q_t.v_s) k_s + bias_g (q_t.v_t) k_t: the values are
/// matched and the keys are summed.
template <MultiHeadHyenaOptions O>
struct MultiHeadHyenaLayer {
  static constexpr std::string_view name = "mh-hyena";
  static constexpr std::string_view shorthand = "mH";
  static_assert(O.head_width >= 1, "mad: mh-hyena: head_width must be at least 1.");
  static_assert(O.inner_factor >= 1, "mad: mh-hyena: inner_factor must be at least 1.");
  static_assert(O.projection_groups >= 1, "mad: mh-hyena: projection_groups must be at least 1.");

  static constexpr Value forward(Value x) {
    Graph& g = *x.graph;
    const int inner = O.inner_factor * x.width();
    if (3 * inner % O.projection_groups != 0) g.fail(Fault::not_divisible, 3 * inner, O.projection_groups);
    if (inner % O.head_width != 0) {
      g.fail(Fault::not_divisible, inner, O.head_width);
      return x;
    }
    const int heads = inner / O.head_width;
    const Value projected = linear(x, 3 * inner / O.projection_groups, "in_proj", {.bias = true});
    const Value u = short_conv(projected, 3 * inner, O.short_filter, "short_filter");
    const Value q = slice(u, 0, inner);
    const Value k = slice(u, inner, inner);
    const Value v = slice(u, 2 * inner, inner);
    const Value bias = parameter(x, "long_conv.bias", {.dims = {heads}, .rank = 1, .initial = Initial::normal(1)});
    const Value h = hyena_filter(x, heads, O);
    return linear(toeplitz_attention(q, v, k, h, bias), x.width(), "out_proj", {.bias = true});
  }
};

/// The default: heads of 16 channels at every width that is a multiple of 16.
struct MultiHeadHyena : MultiHeadHyenaLayer<MultiHeadHyenaOptions{}> {};

}  // namespace mad
