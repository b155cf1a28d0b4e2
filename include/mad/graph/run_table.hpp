// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a run of elementwise nodes reads, in which order it computes, and what it writes, and which products are around
/// it in a channel mixer's step; for every device.
#pragma once

#include <mad/graph/plan.hpp>

namespace mad {

/// How the columns of a loaded value follow those of the run.
enum class RunColumns : unsigned char { same, single, tiled, spread };

struct RunLoad {
  int node = 0;
  RunColumns columns = RunColumns::same;
};

/// The members of a run in order of computation, without the products around it in a mixer's step. Arguments are
/// numbered members (>= 0) or loads (< 0: ~index). All loads come before all stores: a result may lie on an operand.
struct RunTable {
  RunLoad loads[2 * longest_run]{};  // at most two operands each
  int load_count = 0;
  int argument[longest_run][2]{};
  int members[longest_run]{};
  int count = 0;
};

constexpr RunTable make_run_table(const Node* nodes, const Plan& plan, int step_index) {
  RunTable t;
  const Step& step = plan.schedule.steps[step_index];
  for (int m = step.first; m < step.first + step.count; ++m)
    if (nodes[plan.schedule.order[m]].op->kind == Kind::elementwise) t.members[t.count++] = plan.schedule.order[m];
  for (int m = 0; m < t.count; ++m) {
    const Node& n = nodes[t.members[m]];
    for (int k = 0; k < n.operands && k < 2; ++k) {
      const int o = n.operand[k];
      int found = -1;
      for (int j = 0; j < m; ++j)
        if (t.members[j] == o && nodes[o].width == n.width) found = j;
      if (found >= 0) {
        t.argument[m][k] = found;
        continue;
      }
      RunLoad load{o, nodes[o].width == n.width ? RunColumns::same : RunColumns::single};
      if (n.op == &ops::tile_op) load.columns = RunColumns::tiled;
      if (n.op == &ops::spread_op) load.columns = RunColumns::spread;
      int index = 0;
      while (index < t.load_count && (t.loads[index].node != o || t.loads[index].columns != load.columns)) ++index;
      if (index == t.load_count) t.loads[t.load_count++] = load;
      t.argument[m][k] = ~index;
    }
  }
  return t;
}

/// The products of a mixer's step; \p run tells the order of loads and members (`make_run_table`).
constexpr MixerTable make_mixer_table(const Node* nodes, const Schedule& s, int step_index, const RunTable& run) {
  MixerTable t;
  t.inside = nodes[run.members[0]].width;
  for (int l = 0; l < run.load_count; ++l) channel_mixer::add_product(t, nodes, run.loads[l].node, true, 0);
  const Step& step = s.steps[step_index];
  for (int m = step.first; m < step.first + step.count; ++m) {
    const int id = s.order[m];
    for (int k = 0; k < run.count; ++k)
      if (nodes[id].op->kind == Kind::opaque && nodes[id].operand[0] == run.members[k])
        channel_mixer::add_product(t, nodes, id, false, k);
  }
  t.addend = channel_mixer::addend_of(nodes[t.out[0].node]);
  for (int m = step.first; m < step.first + step.count; ++m) {
    if (!nodes[s.order[m]].op->row_norm) continue;
    t.norm = s.order[m];
    t.inputs[0] = nodes[t.norm].operand[0];
  }
  return t;
}

}  // namespace mad
