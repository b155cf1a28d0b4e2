// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Channel mixers as one step: matrix products into a wider (or narrower) inside, a run of elementwise nodes, and
/// products out of it. A device with such a kernel writes of the inside only what others read, and computes it again in
/// the backward pass. Rows are whole in it, so that it may compute a norm in front.
#pragma once

#include <mad/graph/mixer_shape.hpp>
#include <mad/graph/schedule.hpp>

namespace mad {

/// The products of a mixer's step, by what they read and write. Inputs are listed once, and weights once for each way
/// that a kernel reads them.
struct MixerTable {
  struct Product {
    int node = 0;
    int from = 0;  ///< a way in: index of its input; a way out: index of its member of the run
    int weight = 0;
  };
  int inputs[channel_mixer::most_inputs]{};
  int input_count = 0;
  int weights[channel_mixer::most_weights]{};
  bool inside_rows[channel_mixer::most_weights]{};  ///< the weight is stored (inside, outside)
  int weight_count = 0;
  Product in[channel_mixer::most_products]{};  ///< in the order in which the run loads them
  int in_count = 0;
  Product out[channel_mixer::most_products]{};  ///< their sum is the result
  int out_count = 0;
  int addend = -1;  ///< a node that is added to the result
  int inside = 0;   ///< width
  int norm = -1;    ///< what the products in read is this node of the only input

  constexpr int result() const { return out[out_count - 1].node; }
};

namespace channel_mixer {

/// True if the weight of a product is stored (inside, outside): of x W^T, and of dy W, one side of it is x's or dy's.
constexpr bool has_inside_rows(const Node& product, bool way_in) {
  const bool inside_is_out = way_in == (product.op->product == Product::forward);
  const bool in_out = product.attribute[0] != 0;
  return inside_is_out != in_out;
}

/// Adds the weight and, for a way in, the input of a product. False where there are too many.
constexpr bool add_product(MixerTable& t, const Node* nodes, int node, bool way_in, int from) {
  int& count = way_in ? t.in_count : t.out_count;
  if (count == most_products) return false;
  const Node& n = nodes[node];
  if (way_in) from = index_in(t.inputs, t.input_count, most_inputs, n.operand[0]);
  // A square matrix may be read both ways.
  const bool inside_rows = has_inside_rows(n, way_in);
  int weight = 0;
  while (weight < t.weight_count && (t.weights[weight] != n.operand[1] || t.inside_rows[weight] != inside_rows))
    ++weight;
  if (from < 0 || weight == most_weights) return false;
  if (weight == t.weight_count) ++t.weight_count;
  t.weights[weight] = n.operand[1];
  t.inside_rows[weight] = inside_rows;
  (way_in ? t.in : t.out)[count++] = {node, from, weight};
  return true;
}

}  // namespace channel_mixer

namespace planning {

/// Takes the products around runs of elementwise nodes into the runs' steps.
class ChannelMixers {
public:
  constexpr ChannelMixers(const Graph& g, Schedule& s, bool with_norms) : g_(g), s_(s), with_norms_(with_norms) {}

  constexpr void run() {
    for (const Phase phase : {Phase::forward, Phase::backward})
      for (int step = s_.phase_begin[static_cast<int>(phase)]; step < s_.phase_begin[static_cast<int>(phase) + 1];
           ++step)
        if (s_.steps[step].group && find(step)) merge(step);
    renumber(g_, s_);
  }

private:
  constexpr bool is_member(int i, int step) const {
    return s_.live[i] && s_.step_of[i] == step && g_.nodes[i].op->kind == Kind::elementwise;
  }
  /// True if all who read a value satisfy a condition; the ends of the graph read too.
  template <class Condition>
  constexpr bool all_readers(int value, const Condition& condition) const {
    if (value == g_.output || value == g_.input_gradient) return false;
    for (int i = 0; i < g_.size; ++i) {
      if (!s_.live[i] || g_.nodes[i].op->kind == Kind::result) continue;
      for (int k = 0; k < g_.nodes[i].operands; ++k)
        if (g_.nodes[i].operand[k] == value && !condition(i)) return false;
    }
    return true;
  }
  /// True for a way out of a mixer before this one: it cannot be taken from there.
  constexpr bool is_in_mixer(int product) const { return s_.steps[s_.step_of[product]].mixer; }
  constexpr bool is_before(int value, int step) const {
    while (g_.nodes[value].op->kind == Kind::view) value = g_.nodes[value].operand[0];
    if (g_.nodes[value].op->kind == Kind::leaf) return true;
    const int at = s_.step_of[producer(g_, value)];
    return at >= 0 && at < step;
  }
  /// True for what a device may store in another type than its neighbours.
  constexpr bool is_exact(int value) const {
    while (g_.nodes[value].op->kind == Kind::view) value = g_.nodes[value].operand[0];
    return g_.nodes[producer(g_, value)].op->exact_outputs != 0;
  }

  constexpr bool find(int step) {
    found_ = {};
    if (!find_ways_in(step) || !find_ways_out(step) || !stores_few(step)) return false;
    if (with_norms_) find_norm();
    return true;
  }
  constexpr bool stores_few(int step) const {
    int stored = 0;
    for (int m = 0; m < g_.size; ++m)
      if (is_member(m, step) &&
          !all_readers(m, [&](int reader) { return is_member(reader, step) || is_way_out(reader); }))
        ++stored;
    return stored <= channel_mixer::most_stored;
  }

  constexpr bool find_ways_in(int step) {
    for (int m = 0; m < g_.size; ++m) {
      if (!is_member(m, step)) continue;
      const Node& n = g_.nodes[m];
      if (!channel_mixer::is_inside(n) || !channel_mixer::keeps_columns(g_, n)) return false;
      for (int k = 0; k < n.operands; ++k) {
        const int o = n.operand[k];
        if (is_member(o, step) || is_way_in(o)) continue;
        if (!channel_mixer::is_way_in(g_, g_.nodes[o]) || s_.phase[o] != s_.phase[m] ||
            is_exact(g_.nodes[o].operand[0]) || is_in_mixer(o) ||
            !all_readers(o, [&](int reader) { return is_member(reader, step); }) ||
            !channel_mixer::add_product(found_, g_.nodes, o, true, 0))
          return false;
      }
    }
    return found_.in_count > 0;
  }
  constexpr bool is_way_in(int node) const {
    for (int k = 0; k < found_.in_count; ++k)
      if (found_.in[k].node == node) return true;
    return false;
  }

  constexpr bool is_way_out(int node) const {
    for (int k = 0; k < found_.out_count; ++k)
      if (found_.out[k].node == node) return true;
    return false;
  }

  /// The products that read members must be one sum: each adds the one before it, and nobody else reads that.
  constexpr bool find_ways_out(int step) {
    int last = -1;
    for (int i = 0; i < g_.size; ++i) {
      const Node& n = g_.nodes[i];
      if (!s_.live[i] || n.op->product == Product::none || !is_member(n.operand[0], step)) continue;
      const int addend = channel_mixer::is_product(g_, n) ? channel_mixer::addend_of(n) : -1;
      if (!channel_mixer::is_product(g_, n) || !channel_mixer::is_outside(n) || s_.phase[i] != s_.phase[n.operand[0]] ||
          !channel_mixer::add_product(found_, g_.nodes, i, false, 0))
        return false;
      if (last < 0 && addend >= 0 && (!is_before(addend, step) || is_exact(addend))) return false;
      if (last >= 0 && (addend != last || !all_readers(last, [&](int reader) { return reader == i; }))) return false;
      last = i;
    }
    return last >= 0;
  }

  /// A norm in front, which nobody else reads in the forward pass.
  constexpr void find_norm() {
    const int norm = found_.inputs[0];
    const Node& n = g_.nodes[norm];
    const auto reads_late = [&](int reader) { return is_way_in(reader) || s_.phase[reader] == Phase::backward; };
    if (found_.input_count == 1 && s_.phase[norm] == Phase::forward && s_.phase[found_.in[0].node] == Phase::forward &&
        channel_mixer::is_norm(g_, n) && !is_exact(n.operand[0]) && all_readers(norm, reads_late))
      found_.norm = norm;
  }

  constexpr void merge(int step) {
    const auto take = [&](int node) {
      --s_.steps[s_.step_of[node]].count;
      s_.step_of[node] = step;
      ++s_.steps[step].count;
    };
    for (int k = 0; k < found_.in_count; ++k) take(found_.in[k].node);
    for (int k = 0; k < found_.out_count; ++k) take(found_.out[k].node);
    if (found_.norm >= 0) take(found_.norm);
    s_.steps[step].group = false;
    s_.steps[step].mixer = true;
  }

  const Graph& g_;
  Schedule& s_;
  bool with_norms_;
  MixerTable found_;
};

}  // namespace planning
}  // namespace mad
