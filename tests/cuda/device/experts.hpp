// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of mixtures of experts, of maps shared by heads, and of rational filters.
#pragma once

#include <mad/layers/hyena.hpp>
#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/models/model.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/head_product.hpp>
#include <mad/ops/linear_heads.hpp>

namespace mad::testing {

/// More experts than a lane sums up at a time, a width that no chunk divides, biases; all experts active.
struct DenseMoe : MoeMlpLayer<MoeMlpOptions{.experts = 19, .active = 19, .inner = 3, .bias = true}> {};
/// Two stages gated by a sum over channels, filters that share denominators; all experts active.
struct DenseHyenaExperts : HyenaExpertsLayer<HyenaExpertsOptions{.experts = 4,
                                                                 .active_experts = 4,
                                                                 .order = 3,
                                                                 .outer_mixing = true,
                                                                 .activation = HyenaActivation::silu,
                                                                 .filter_kind = FilterKind::rational,
                                                                 .rational = {.state = 3, .denominators = 4}}> {};
/// Experts left out.
struct IntendedMoe : MoeMlpLayer<MoeMlpOptions{.experts = 5, .routing = Routing::intended}> {};
/// A filter and a denominator for each channel.
struct RationalHyena : HyenaLayer<HyenaOptions{.inner_factor = 1,
                                               .filter_kind = FilterKind::rational,
                                               .rational = {.state = 16, .init = RationalInit::uniform_state}}> {};

/// Maps shared by heads: narrow ones of all kinds of widths, and wide ones, side by side in slices and alone.
struct SharedMaps {
  static constexpr std::string_view name = "shared-maps";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const Value u = linear(x, 2 * D, "in_proj");
    const Value narrow = head_map(x, 8, 8, "square", {.bias = true})(slice(u, 0, D), D / 8);
    const Value odd = head_map(x, D / 4, 5, "odd")(slice(u, D, D), 4);                            // (rows, 20)
    const Value wide = head_map(x, D / 2, D / 2, "wide", {.bias = true})(slice(u, D / 2, D), 2);  // of a slice
    const Value again = head_map(x, D, 2 * D, "one")(wide + narrow, 1);
    return linear(concat(narrow * wide, again, odd), D, "out_proj");
  }
};

/// Products of two maps shared by heads: of all kinds of widths, from and into slices, with the same maps twice.
struct ProductsOfMaps {
  static constexpr std::string_view name = "products-of-maps";

  static constexpr Value of(Value x, Name name, int heads, int out) {
    const Scope scope(x, name);
    const HeadMap first = head_map(x, x.width() / heads, out, "first", {.bias = true});
    return head_product(x, heads, first, head_map(x, x.width() / heads, out, "second", {.bias = true}));
  }
  static constexpr Value forward(Value x) {
    const int D = x.width();
    const Value u = linear(x, 2 * D, "in_proj");
    const HeadMap first = head_map(x, 8, 8, "first", {.bias = true});
    const HeadMap second = head_map(x, 8, 8, "second", {.bias = true});
    const Value eight = head_product(linear(x, D, "proj"), D / 8, first, second);
    const Value again = head_product(slice(u, 0, D), D / 8, first, second);
    const Value wider = of(slice(u, D / 2, D), "wider", D / 16, 16);
    const Value widest = of(slice(u, D, D), "widest", D / 32, 32);
    const Value unlike = of(eight + again, "unlike", D / 16, 24);
    const Value four = of(slice(u, D / 4, D / 2), "four", D / 8, 4);
    const Value odd = of(slice(u, 3, 15), "odd", 3, 7);
    const Value wide = of(slice(u, 0, D), "wide", 1, 32);
    return linear(concat(eight, wider * widest, unlike, four, wide), D, "out_proj") + linear(odd, D, "odd_proj");
  }
};

/// Two maps with one weight and one bias, whose gradients add up.
struct MapTwice {
  static constexpr std::string_view name = "map-twice";

  static constexpr Value forward(Value x) {
    const int D = x.width();
    const Value weight = parameter(x, "weight", {.dims = {D, D}, .rank = 2, .initial = Initial::uniform(0.1)});
    const Value bias =
        parameter(x, "bias", {.dims = {D}, .rank = 1, .role = Role::bias, .initial = Initial::uniform(0.1)});
    return linear(silu(linear(x, weight, bias)), weight, bias);
  }
};

using DenseMoeNet = Stack<DenseMoe>;
using DenseHyenaExpertsNet = Stack<DenseHyenaExperts>;
using RoutedNet = Stack<MoeMlp, IntendedMoe>;
using ProductsOfMapsNet = Stack<ProductsOfMaps, ProductsOfMaps>;
using SharedMapsNet = Stack<SharedMaps, RationalHyena>;
/// Gradients of weights are deferred in all layers but the first.
using SharedWeightsNet = Stack<MapTwice, MapTwice, SharedMaps>;

}  // namespace mad::testing
