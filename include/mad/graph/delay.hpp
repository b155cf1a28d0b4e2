// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Elementwise nodes in the run where their operands are read anyhow.
#pragma once

#include <mad/graph/schedule.hpp>

namespace mad::planning {

/// Moves elementwise nodes from the run that could first compute them to a later one, where that saves memory traffic:
/// they are read there, or read what is read there anyhow. What leaves a run leaves it together with those whose values
/// it has only in registers.
class Delay {
public:
  constexpr Delay(const Graph& g, Schedule& s) : g_(g), s_(s) {}

  constexpr void run() {
    find_readers();
    for (int p = 0; p < phase_count; ++p)
      for (int step = s_.phase_begin[p + 1] - 1; step >= s_.phase_begin[p]; --step)
        if (s_.steps[step].group) empty(step, s_.phase_begin[p + 1] - 1);
    renumber(g_, s_);
  }

private:
  /// A node that reads a value, directly or through views.
  struct Reader {
    int node;
    bool by_view;
    int next;
  };

  constexpr bool placed(int i) const { return s_.live[i] && s_.step_of[i] >= 0; }
  constexpr bool is_run_of(int step, int node) const {
    return s_.steps[step].group && g_.nodes[first_[step]].domain == g_.nodes[node].domain &&
           g_.nodes[first_[step]].width == g_.nodes[node].width;
  }

  constexpr void find_readers() {
    for (int i = 0; i < g_.size; ++i) {
      head_[i] = -1;
      member_[i] = -1;
      if (placed(i)) first_[s_.step_of[i]] = i;
    }
    for (int i = 0; i < g_.size; ++i) {
      const Node& n = g_.nodes[i];
      if (!placed(i) || n.op->kind == Kind::result) continue;
      for (int k = 0; k < n.operands; ++k) {
        add_reader(n.operand[k], {i, false, -1});
        int o = n.operand[k];
        while (g_.nodes[o].op->kind == Kind::view) {
          o = g_.nodes[o].operand[0];
          add_reader(o, {i, true, -1});
        }
      }
    }
  }
  constexpr void add_reader(int of, Reader reader) {
    reader.next = head_[of];
    readers_[reader_count_] = reader;
    head_[of] = reader_count_++;
  }

  /// True if a node of a step, but of none of \p but's companions, reads the value itself.
  constexpr bool is_read_in(int step, int value, int but) const {
    for (int r = head_[value]; r >= 0; r = readers_[r].next)
      if (!readers_[r].by_view && s_.step_of[readers_[r].node] == step && member_[readers_[r].node] != but) return true;
    return false;
  }
  constexpr bool is_read_outside(int value, int step) const {
    if (value == g_.output || value == g_.input_gradient) return true;
    for (int r = head_[value]; r >= 0; r = readers_[r].next)
      if (s_.step_of[readers_[r].node] != step) return true;
    return false;
  }

  constexpr int root(int i) const {
    while (member_[i] != i) i = member_[i];
    return i;
  }

  /// Moves away what is better computed later, the last values first.
  constexpr void empty(int step, int last_step) {
    for (int i = 0; i < g_.size; ++i) member_[i] = s_.step_of[i] == step ? i : -1;
    for (int i = 0; i < g_.size; ++i) {
      if (member_[i] < 0) continue;
      for (int k = 0; k < g_.nodes[i].operands; ++k) {
        const int o = g_.nodes[i].operand[k];
        if (s_.step_of[o] == step && !is_read_outside(o, step)) member_[root(o)] = root(i);
      }
    }
    for (int i = 0; i < g_.size; ++i)
      if (member_[i] >= 0) member_[i] = root(i);  // a root is the last of its companions
    for (int i = g_.size - 1; i >= 0; --i)
      if (member_[i] == i) move(i, step, last_step);
  }

  constexpr void move(int companions, int step, int last_step) {
    int count = 0;
    for (int i = 0; i < g_.size; ++i) {
      if (member_[i] != companions) continue;
      ++count;
      for (int r = head_[i]; r >= 0; r = readers_[r].next) {
        const int reader = readers_[r].node;
        if (member_[reader] == companions) continue;
        const Operation* op = g_.nodes[reader].op;
        const bool same_run =
            !readers_[r].by_view && is_run_of(s_.step_of[reader], i) && op != &ops::tile_op && op != &ops::spread_op;
        const int latest = s_.step_of[reader] - (same_run ? 0 : 1);
        last_step = last_step < latest ? last_step : latest;
      }
    }
    int best = -1;
    int best_gain = 0;
    for (int to = step + 1; to <= last_step; ++to) {
      if (!is_run_of(to, companions) || s_.steps[to].count + count > longest_run) continue;
      const int gain = columns_saved(companions, step, to);
      if (gain > best_gain) {
        best = to;
        best_gain = gain;
      }
    }
    if (best < 0) return;
    for (int i = 0; i < g_.size; ++i)
      if (member_[i] == companions) {
        s_.step_of[i] = best;
        member_[i] = -1;
      }
    s_.steps[step].count -= count;
    s_.steps[best].count += count;
  }

  /// Columns per row that are read and written less if the companions move, in widths of the run.
  constexpr int columns_saved(int companions, int step, int to) {
    bool seen[Graph::capacity]{};
    int saved = 0;
    for (int i = 0; i < g_.size; ++i) {
      if (member_[i] != companions) continue;
      const Node& n = g_.nodes[i];
      for (int k = 0; k < n.operands; ++k) {
        const int o = n.operand[k];
        if (seen[o] || member_[o] == companions || g_.nodes[o].domain != n.domain || g_.nodes[o].width != n.width)
          continue;
        seen[o] = true;
        saved += s_.step_of[o] == step || is_read_in(step, o, companions) ? 0 : 1;
        saved -= is_read_in(to, o, companions) ? 0 : 1;
      }
      if (!is_read_in(to, i, companions)) continue;
      ++saved;
      bool stored = i == g_.output || i == g_.input_gradient;
      for (int r = head_[i]; r >= 0; r = readers_[r].next)
        stored = stored || (s_.step_of[readers_[r].node] != to && member_[readers_[r].node] != companions);
      saved += stored ? 0 : 1;
    }
    return saved;
  }

  const Graph& g_;
  Schedule& s_;
  int first_[Graph::capacity]{};   ///< a node of each step
  int member_[Graph::capacity]{};  ///< of the run that is being emptied: with whom a node must move
  int head_[Graph::capacity]{};
  Reader readers_[2 * Node::max_operands * Graph::capacity]{};
  int reader_count_ = 0;
};

}  // namespace mad::planning
