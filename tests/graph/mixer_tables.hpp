// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Whether the tables of a channel mixer's step say what its nodes compute: a kernel sees nothing else.
#pragma once

#include <mad/graph/run_table.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace mad::testing {

/// Compares one mixer's tables with the graph, and with what a kernel can.
class MixerTables {
public:
  MixerTables(const Graph& graph, const Plan& plan, int step)
      : g_(graph),
        plan_(plan),
        step_(plan.schedule.steps[step]),
        run(make_run_table(graph.nodes, plan, step)),
        mixer(make_mixer_table(graph.nodes, plan.schedule, step, run)) {}

  bool agree() const {
    return run.count > 0 && mixer.in_count > 0 && mixer.out_count > 0 &&
           step_.count == run.count + mixer.in_count + mixer.out_count + (mixer.norm >= 0 ? 1 : 0) && members_agree() &&
           ways_in_agree() && ways_out_agree() && norm_agrees() && inputs_fit() && layouts_agree();
  }

private:
  static constexpr bool fits(int width) { return width % channel_mixer::multiple == 0; }
  const Node& node(int i) const { return g_.nodes[i]; }
  bool in_registers(int i) const { return plan_.location[i].space == Space::registers; }

  bool members_agree() const {
    for (int m = 0; m < run.count; ++m) {
      const Node& n = node(run.members[m]);
      if (n.op->kind != Kind::elementwise || n.domain != Domain::tokens || n.width != mixer.inside || n.operands > 2)
        return false;
      for (int k = 0; k < n.operands; ++k) {
        const int from = run.argument[m][k];
        if (from >= m || n.operand[k] != (from >= 0 ? run.members[from] : run.loads[~from].node)) return false;
      }
    }
    return fits(mixer.inside);
  }

  /// A norm is of the only input, whole rows of it.
  bool norm_agrees() const {
    if (mixer.norm < 0) return true;
    const Node& n = node(mixer.norm);
    return n.op->row_norm && n.attribute[0] == n.width && mixer.input_count == 1 && n.operand[0] == mixer.inputs[0] &&
           std::all_of(n.operand + 1, n.operand + n.operands,
                       [&](int k) { return node(k).op == &ops::parameter_op && node(k).width == n.width; });
  }

  /// A product inside has no memory, whoever reads it.
  bool ways_in_agree() const {
    if (mixer.in_count != run.load_count) return false;
    for (int k = 0; k < mixer.in_count; ++k) {
      const MixerTable::Product& p = mixer.in[k];
      const Node& n = node(p.node);
      if (n.op->product == Product::none || n.operands != 2 ||
          n.operand[0] != (mixer.norm >= 0 ? mixer.norm : mixer.inputs[p.from]) ||
          n.operand[1] != mixer.weights[p.weight] || n.width != mixer.inside || !in_registers(p.node) ||
          p.node != run.loads[k].node || run.loads[k].columns != RunColumns::same)
        return false;
    }
    return true;
  }

  bool ways_out_agree() const {
    for (int k = 0; k < mixer.out_count; ++k) {
      const MixerTable::Product& p = mixer.out[k];
      const Node& n = node(p.node);
      const bool last = k + 1 == mixer.out_count;
      const int added = k > 0 ? mixer.out[k - 1].node : mixer.addend;
      if (n.op->product == Product::none || n.operand[0] != run.members[p.from] ||
          n.operand[1] != mixer.weights[p.weight] || (n.operands == 3 ? n.operand[2] : -1) != added ||
          in_registers(p.node) == last || !fits(n.width) || n.width > channel_mixer::widest)
        return false;
    }
    return true;
  }

  bool inputs_fit() const {
    for (int i = 0; i < mixer.input_count; ++i) {
      const Node& n = node(mixer.inputs[i]);
      if (n.domain != Domain::tokens || !fits(n.width) || n.width > channel_mixer::widest) return false;
    }
    return true;
  }

  /// A kernel knows each weight either by rows of the inside or by rows of the outside.
  bool layouts_agree() const {
    int layout[channel_mixer::most_weights];
    std::fill(std::begin(layout), std::end(layout), -1);
    const auto agrees = [&](const MixerTable::Product& p, bool way_in) {
      const Node& n = node(p.node);
      const bool inside_is_out = way_in == (n.op->product == Product::forward);
      const int inside_rows = inside_is_out != (n.attribute[0] != 0) ? 1 : 0;
      const int before = std::exchange(layout[p.weight], inside_rows);
      return node(n.operand[1]).op == &ops::parameter_op && (before < 0 || before == inside_rows);
    };
    for (int k = 0; k < mixer.in_count; ++k)
      if (!agrees(mixer.in[k], true)) return false;
    for (int k = 0; k < mixer.out_count; ++k)
      if (!agrees(mixer.out[k], false)) return false;
    return true;
  }

  const Graph& g_;
  const Plan& plan_;
  const Step& step_;

public:
  const RunTable run;
  const MixerTable mixer;
};

}  // namespace mad::testing
