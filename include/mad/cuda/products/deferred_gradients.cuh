// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of weights and biases of a layer are noted, and computed together: when the layer's backward pass has been
/// recorded, or before the first stream waits for what is aside.
#pragma once

#include <mad/cuda/products/row_sum.cuh>
#include <mad/cuda/products/weight_gradients.cuh>
#include <mad/cuda/products/weight_gradients_exact.cuh>

#include <algorithm>
#include <type_traits>
#include <vector>

namespace mad::cuda {

namespace deferred_detail {

/// Rows up to which all gradients of a layer in one kernel take less time than a product each, where that kernel's
/// shares are neighbouring rows: beyond, tiles no longer meet in the second-level cache.
inline constexpr Index most_rows = Index{1} << 15;

/// Calls start(group) for the gradients that \p belongs picks, as many at a time as \p most and as have places of
/// their own.
template <class Belongs, class Start>
void in_groups(const std::vector<WeightGradient>& all, std::size_t most, const Belongs& belongs, const Start& start) {
  std::vector<WeightGradient> group;
  for (const WeightGradient& g : all) {
    if (!belongs(g)) continue;
    const auto meets = [&](const WeightGradient& o) { return collide(o, g); };
    if (group.size() == most || std::any_of(group.begin(), group.end(), meets)) {
      start(group);
      group.clear();
    }
    group.push_back(g);
  }
  if (!group.empty()) start(group);
}

/// The sums over rows that found no product to go along with, then the products.
inline void start(Queue& queue, const DeferredGradients<BFloat16>& deferred) {
  const auto is_product = [](const WeightGradient& g) { return g.x != nullptr; };
  const auto is_sum = [](const WeightGradient& g) { return g.x == nullptr; };
  in_groups(deferred.gradients, most_row_sums, is_sum, [&](const std::vector<WeightGradient>& group) {
    std::vector<RowSum<BFloat16>> sums;
    for (const WeightGradient& g : group) sums.push_back({g.dy, g.dy_stride, static_cast<unsigned>(g.out), g.d_bias});
    queue.release();
    add_row_sums<BFloat16>(queue, sums, deferred.rows);
  });
  in_groups(deferred.gradients, most_weight_gradients, is_product, [&](const std::vector<WeightGradient>& group) {
    queue.release();
    add_weight_gradients(queue, group, deferred.rows);
  });
}
inline void start_exact(Queue& queue, const DeferredGradients<float>& deferred) {
  add_exact_weight_gradients(queue, deferred.gradients, deferred.rows);
}

template <class T>
std::vector<WeightGradientOf<T>>& list(Queue& queue, Index rows) {
  if constexpr (std::is_same_v<T, float>)
    return queue.defer<float>(rows, start_exact);
  else
    return queue.defer<BFloat16>(rows, start);
}

/// Small gradients in float also occur in the epilogue, whose steps read each other's results.
template <class T>
bool is_deferred(Index rows, const WeightGradientOf<T>& g, bool to_parameter) {
  if constexpr (std::is_same_v<T, float>)
    return to_parameter && are_few(g, rows);
  else
    return takes(g) && (rows <= most_rows || weight_gradient_warpgroup::is_there());
}

}  // namespace deferred_detail

/// Notes d_weight (out, in) += dy^T x for later. False where that is nothing for the common kernel, and not noted.
/// \param to_parameter it goes to a parameter's gradient
template <class T>
bool defer_product(Queue& queue, Index rows, const WeightGradientOf<T>& g, bool to_parameter) {
  if (!deferred_detail::is_deferred(rows, g, to_parameter)) return false;
  for (WeightGradientOf<T>& known : deferred_detail::list<T>(queue, rows)) {
    if (known.dy != g.dy || known.dy_stride != g.dy_stride || known.out != g.out || known.x != nullptr) continue;
    known.x = g.x;
    known.x_stride = g.x_stride;
    known.in = g.in;
    known.d_weight = g.d_weight;
    return true;
  }
  deferred_detail::list<T>(queue, rows).push_back(g);
  return true;
}

/// Notes to[c] += sum over r of x[r, c] for later; it goes along with a product that has x for its dy if there is one.
/// False where it is nothing for the common kernels, and not noted.
template <class T>
bool defer_row_sums(Queue& queue, View<const T> x, Index rows, Index columns, float* to, bool to_parameter) {
  const auto stride = static_cast<std::size_t>(x.stride);
  WeightGradientOf<T> g{.dy = x.data, .dy_stride = stride, .x = x.data, .x_stride = stride};
  g.out = static_cast<int>(columns);
  g.in = std::is_same_v<T, float> ? 1 : g.out;
  if (!deferred_detail::is_deferred(rows, g, to_parameter)) return false;
  for (WeightGradientOf<T>& known : deferred_detail::list<T>(queue, rows)) {
    if (known.dy != x.data || known.dy_stride != stride || known.out != columns || known.d_bias != nullptr) continue;
    known.d_bias = to;
    return true;
  }
  g.x = nullptr;
  g.in = 0;
  g.d_bias = to;
  deferred_detail::list<T>(queue, rows).push_back(g);
  return true;
}

}  // namespace mad::cuda
