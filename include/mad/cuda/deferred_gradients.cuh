// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of weights and biases of a layer are noted, and computed together: when the layer's backward pass has been
/// recorded, or before the first stream waits for what is aside.
#pragma once

#include <mad/cuda/row_sum.cuh>
#include <mad/cuda/weight_gradients.cuh>

#include <algorithm>
#include <type_traits>
#include <vector>

namespace mad::cuda {

namespace deferred_detail {

/// Rows up to which all gradients of a layer in one kernel take less time than a product each.
inline constexpr Index most_rows = Index{1} << 15;

inline bool wanted(const Queue& queue, Index rows) { return queue.defers() && rows <= most_rows; }

/// True if two products add to the same place: one kernel must not do both.
inline bool collide(const WeightGradient& a, const WeightGradient& b) {
  return a.d_weight == b.d_weight || (a.d_bias != nullptr && a.d_bias == b.d_bias);
}

/// The sums over rows that found no product to go along with, then the products, as many at a time as one kernel takes.
inline void start(Queue& queue) {
  const Index rows = queue.deferred_rows();
  std::vector<WeightGradient> group;
  const auto start_group = [&] {
    queue.release();
    add_weight_gradients(queue, group, rows);
    group.clear();
  };
  for (const WeightGradient& g : queue.all_deferred()) {
    if (g.x != nullptr) continue;
    queue.release();
    add_row_sums<BFloat16>(queue, {g.dy, static_cast<Index>(g.dy_stride)}, rows, g.out, g.d_bias);
  }
  for (const WeightGradient& g : queue.all_deferred()) {
    if (g.x == nullptr) continue;
    const bool alone = std::any_of(group.begin(), group.end(), [&](const WeightGradient& o) { return collide(o, g); });
    if (alone || group.size() == most_weight_gradients) start_group();
    group.push_back(g);
  }
  if (!group.empty()) start_group();
}

}  // namespace deferred_detail

/// Notes d_weight (out, in) += dy^T x for later. False where that is nothing for the common kernel, and not noted.
inline bool defer_product(Queue& queue, Index rows, const WeightGradient& g) {
  if (!deferred_detail::wanted(queue, rows) || !takes(g)) return false;
  for (WeightGradient& known : queue.defer(rows, deferred_detail::start)) {
    if (known.dy != g.dy || known.dy_stride != g.dy_stride || known.out != g.out || known.x != nullptr) continue;
    known.x = g.x;
    known.x_stride = g.x_stride;
    known.in = g.in;
    known.d_weight = g.d_weight;
    return true;
  }
  queue.defer(rows, deferred_detail::start).push_back(g);
  return true;
}

/// Notes to[c] += sum over r of x[r, c] for later, if it can go along with a product that has x for its dy. False where
/// it cannot, and it is not noted.
template <class T>
bool defer_row_sums(Queue& queue, View<const T> x, Index rows, Index columns, float* to) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto stride = static_cast<std::size_t>(x.stride);
    WeightGradient g{.dy = x.data, .dy_stride = stride, .x = x.data, .x_stride = stride};
    g.out = g.in = static_cast<int>(columns);
    if (!deferred_detail::wanted(queue, rows) || !takes(g)) return false;
    for (WeightGradient& known : queue.defer(rows, deferred_detail::start)) {
      if (known.dy != x.data || known.dy_stride != stride || known.out != columns || known.d_bias != nullptr) continue;
      known.d_bias = to;
      return true;
    }
    queue.defer(rows, deferred_detail::start)
        .push_back({.dy = x.data, .dy_stride = stride, .out = static_cast<int>(columns), .d_bias = to});
    return true;
  }
  return false;
}

}  // namespace mad::cuda
