// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Hyena: gated long convolutions with implicit filters.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/layers/hyena_filter.hpp>
#include <mad/ops/gated_short_conv.hpp>
#include <mad/ops/long_conv.hpp>
#include <mad/ops/short_conv.hpp>

namespace mad {

struct HyenaOptions {
  int inner_factor = 4;       ///< inner width / D
  int projection_groups = 4;  ///< the input projection is that much narrower and is tiled
  int order = 2;              ///< order - 1 gates; above 2 the further blocks are computed but unused (see heads)
  int short_filter = 3;       ///< taps of the depthwise convolution after the projection
  int heads = 0;              ///< divides the filters: inner (order - 1) / heads; 0: order - 1, a filter per channel
  FilterKind filter_kind = FilterKind::implicit;
  FilterOptions filter{.order = 4};
  RationalFilterOptions rational{};
};

/// Hyena operator (Poli et al. 2023) as in the reference: packed projection, short convolution, gate, long
/// convolution, gate, output projection. With P projection groups the T = (order + 1) I channels share T / P
/// projections: the block is tiled P times.
template <HyenaOptions O>
struct HyenaLayer {
  static constexpr std::string_view name = "hyena";
  static constexpr std::string_view shorthand = "H";

  static constexpr Value forward(Value x) {
    Graph& g = *x.graph;
    const int inner = O.inner_factor * x.width();
    const int total = (O.order + 1) * inner;
    const int heads = O.heads > 0 ? O.heads : O.order - 1;
    if (O.order < 2 || O.projection_groups < 1 || O.inner_factor < 1) {
      g.fail(Fault::bad_option, O.order < 2 ? O.order : 0, O.order < 2 ? 2 : 1);
      return x;
    }
    if (total % O.projection_groups != 0) g.fail(Fault::not_divisible, total, O.projection_groups);
    const int filters = inner * (O.order - 1) / heads;
    if (heads < 1 || inner * (O.order - 1) % heads != 0 || inner % filters != 0) {
      g.fail(Fault::not_divisible, inner, heads);
      return x;
    }
    const Value projected = linear(x, total / O.projection_groups, "in_proj", {.bias = true});
    const auto [gate, v] = gated(projected, inner);
    const Value skip = parameter(x, "long_conv.bias", {.dims = {filters}, .rank = 1, .initial = Initial::normal(1)});
    const Value h = hyena_filter(x, filters, O);
    return linear(gate * long_conv(v, h, skip), x.width(), "out_proj", {.bias = true});
  }

private:
  /// The last gate, and what the long convolution is given.
  static constexpr GatedShortConv gated(Value projected, int inner) {
    if (O.order == 2) return gated_short_conv(projected, inner, O.short_filter, "short_filter");
    const Value u = short_conv(projected, (O.order + 1) * inner, O.short_filter, "short_filter");
    return {slice(u, 0, inner), slice(u, inner, inner) * slice(u, O.order * inner, inner)};
  }
};

struct Hyena : HyenaLayer<HyenaOptions{}> {};

}  // namespace mad
