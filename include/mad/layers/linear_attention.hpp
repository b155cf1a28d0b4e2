// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear attention: a feature map in place of the softmax, and a state in place of the keys.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/feature_maps.hpp>
#include <mad/ops/head_product.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/linear_heads.hpp>
#include <mad/ops/linear_recurrence.hpp>
#include <mad/ops/softmax.hpp>

namespace mad {

/// What is made of a query or key x of head width d before they are multiplied. The maps `identity`,
/// `elementwise_product` and `dpfp` can be negative, so that the normaliser can pass through zero.
enum class FeatureMap {
  identity,             ///< x
  elu,                  ///< elu(x) + 1 (Katharopoulos et al. 2020)
  relu,                 ///< relu(x)
  t2r,                  ///< relu(layer x) (Kasai et al. 2021, arXiv 2103.13076)
  elementwise_product,  ///< (layer1 x) * (layer2 x)
  hedgehog,             ///< softmax([2 u, -2 u]), u = layer x (Zhang et al. 2024, arXiv 2402.04347); width 2 d
  dpfp,                 ///< products of rectified neighbours (see mad::dpfp); width 8 d
  taylor,               ///< exp to second order (see mad::taylor); width 1 + 2 d + d (d-1)/2
};

struct LinearAttentionOptions {
  int heads = 0;       ///< H; 0: as many as `head_width` gives
  int head_width = 8;  ///< D / H, used where `heads` is 0; 0 for a single head of the whole width
  FeatureMap feature_map = FeatureMap::elementwise_product;
  double expand_k = 1;              ///< width of queries and keys / D
  double expand_v = 1;              ///< width of values / D
  bool tie_feature_map_qk = false;  ///< queries and keys share one feature map, `feature_map_q`
  bool norm_q = false;              ///< divide the features of a query by their sum
  bool norm_k = false;              ///< and those of a key
  double eps = 1e-12;               ///< added to the normaliser
};

namespace linear_attention {

/// A feature map with its parameters, if it has any.
struct Map {
  FeatureMap kind;
  int heads;
  HeadMap layer, second;

  constexpr Value operator()(Value x) const {
    switch (kind) {
      case FeatureMap::identity:
        return x;
      case FeatureMap::elu:
        return relu(x) + exp(x - relu(x));
      case FeatureMap::relu:
        return relu(x);
      case FeatureMap::t2r:
        return relu(layer(x, heads));
      case FeatureMap::elementwise_product:
        return head_product(x, heads, layer, second);
      case FeatureMap::hedgehog: {
        // The rows of [2 W; -2 W] give every head [2 u, -2 u] at once.
        const HeadMap both{concat(layer.weight * 2.0, layer.weight * -2.0),
                           concat(layer.bias * 2.0, layer.bias * -2.0)};
        return softmax(both(x, heads), 2 * x.width() / heads);
      }
      case FeatureMap::dpfp:
        return dpfp(x, heads);
      case FeatureMap::taylor:
        return taylor(x, heads);
    }
    return x;
  }
};

/// The parameters of a map for heads of width \p d, under \p name.
constexpr Map make_map(Value x, FeatureMap kind, int heads, int d, Name name) {
  Scope scope(x, name);
  switch (kind) {
    case FeatureMap::t2r:
      return {kind, heads, head_map(x, d, d, "layer", {.bias = true}), {}};
    case FeatureMap::hedgehog:
      return {kind, heads, head_map(x, d, d, "layer", {.bias = true, .identity = true}), {}};
    case FeatureMap::elementwise_product: {
      const HeadMap layer1 = head_map(x, d, d, "layer1", {.bias = true});
      return {kind, heads, layer1, head_map(x, d, d, "layer2", {.bias = true})};
    }
    default:
      return {kind, heads, {}, {}};
  }
}

/// x divided by its sum, in every head.
constexpr Value divide_by_sum(Value x, int heads) {
  const Value sum = sum_to(x, Domain::tokens, heads, Fold::spread);
  return x / (spread(sum, x.width()) + 1e-4);
}

}  // namespace linear_attention

/// Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236, equations 9 to 12), per head and with a feature map
/// phi: q = phi_q(proj_q x), k = phi_k(proj_k x), S_t = S_{t-1} + k_t^T v_t, z_t = z_{t-1} + k_t,
/// o_t = q_t S_t / (q_t . z_t + eps). The reference's `linear-attention` family.
template <LinearAttentionOptions O>
struct LinearAttention {
  static_assert(O.heads >= 0 && O.head_width >= 0, "mad: linear-attention: heads and head_width cannot be negative");
  static_assert(O.expand_k > 0 && O.expand_v > 0, "mad: linear-attention: expansions must be above 0");

  static constexpr bool single = O.heads == 1 || (O.heads == 0 && O.head_width == 0);
  static constexpr std::string_view name = single ? "linear-attention" : "mh-linear-attention";
  static constexpr std::string_view shorthand = single ? "Al" : "mAl";

  static constexpr Value forward(Value x) {
    using namespace linear_attention;
    const int D = x.width();
    const int divisor = O.heads > 0 ? 1 : O.head_width > 0 ? O.head_width : D;
    const int H = O.heads > 0 ? O.heads : D / divisor;
    const int Ck = static_cast<int>(D * O.expand_k);
    const int Cv = static_cast<int>(D * O.expand_v);
    if (D % divisor != 0) x.graph->fail(Fault::not_divisible, D, divisor, __builtin_LINE());
    if (H > 0 && (Ck % H != 0 || Ck == 0)) x.graph->fail(Fault::not_divisible, Ck, H, __builtin_LINE());
    if (H > 0 && (Cv % H != 0 || Cv == 0)) x.graph->fail(Fault::not_divisible, Cv, H, __builtin_LINE());
    if (x.graph->fault != Fault::none) return x;

    const Map phi_q = make_map(x, O.feature_map, H, Ck / H, "feature_map_q");
    const Map phi_k = O.tie_feature_map_qk ? phi_q : make_map(x, O.feature_map, H, Ck / H, "feature_map_k");
    Value q = phi_q(linear(x, Ck, "proj_q"));
    Value k = phi_k(linear(x, Ck, "proj_k"));
    const Value v = linear(x, Cv, "proj_v");
    if (O.norm_q) q = divide_by_sum(q, H);
    if (O.norm_k) k = divide_by_sum(k, H);
    const Value sums = linear_recurrence(q, k, v, {.heads = H, .normaliser = true});
    const Value o = slice(sums, 0, Cv) / (spread(slice(sums, Cv, H), Cv) + O.eps);
    return linear(o, D, "out_proj");
  }
};

/// The reference's `linear-attention`: a single head of the whole width.
struct SingleHeadLinearAttn : LinearAttention<LinearAttentionOptions{.head_width = 0}> {};
/// The reference's `mh-linear-attention`: heads of width 8.
struct LinearAttn : LinearAttention<LinearAttentionOptions{}> {};

}  // namespace mad
