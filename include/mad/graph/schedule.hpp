// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The order of computation: which nodes run at all, in which phase of a training step, and which run as one loop.
#pragma once

#include <mad/graph/differentiate.hpp>

namespace mad {

/// The passes of the planner; all on by default, each can be switched off to prove that it changes no result.
enum Pass : unsigned {
  recompute = 1,     ///< cheap forward values are computed again in the backward pass instead of saved
  fusion = 2,        ///< neighbouring elementwise nodes become one loop
  reuse = 4,         ///< buffers that are no longer needed are given to later values
  in_place = 8,      ///< a result may overwrite an operand that dies with it
  concat_views = 16  ///< parts of a concat are written into it directly
};
inline constexpr unsigned all_passes = 31;
/// Not a saving, but room for a device that computes gradients of parameters beside the rest of the backward pass: what
/// they read stays where it is until its end.
inline constexpr unsigned room_aside = 32;
/// Of the cheap values those that take a kernel of their own are saved after all, unless that takes more room than what
/// they are computed from: a device starts kernels one by one, and has the memory.
inline constexpr unsigned save_kernels = 64;
/// Matrix products around a run of elementwise nodes are one step with it (graph/channel_mixer.hpp), and what lies
/// between them is computed again: for a device that has a kernel for that.
inline constexpr unsigned channel_mixers = 128;
/// Cheap values are saved as well if they lie in memory anyhow, because a kernel of the forward pass reads them: a
/// device takes longer to write and read them once more in the backward pass than to compute them.
inline constexpr unsigned save_operands = 256;
/// A channel mixer's step takes in the norm that its input is.
inline constexpr unsigned mixer_norms = 512;
/// A gradient that is the product of two values that lie in memory anyhow is multiplied by the kernel that reads it,
/// where that one can: for a device that waits for memory rather than for arithmetic.
inline constexpr unsigned stored_factors = 1024;

/// The parts of a training step. Values that do not depend on the data are computed once per step, before the first
/// micro-batch; their gradients are summed over all micro-batches and carried on once per step, after the last.
enum class Phase : signed char { none = -1, prologue = 0, forward = 1, backward = 2, epilogue = 3 };
inline constexpr int phase_count = 4;

/// Elementwise nodes that one loop computes at most; what is longer becomes several loops.
inline constexpr int longest_run = 96;

/// One kernel call, one loop over a run of elementwise nodes, or such a run with the products around it:
/// `order[first .. first + count)`.
struct Step {
  int first = 0;
  int count = 0;
  bool group = false;
  bool mixer = false;
};

/// Which nodes are computed, when, and together with which others.
struct Schedule {
  Phase phase[Graph::capacity]{};
  bool live[Graph::capacity]{};
  bool direct_sink[Graph::capacity]{};  ///< a sink whose operand is added to the gradient by its own kernel
  int order[Graph::capacity]{};
  int step_of[Graph::capacity]{};
  Step steps[Graph::capacity]{};
  int phase_begin[phase_count + 1]{};
  int step_count = 0;
  int uses[Graph::capacity]{};
};

/// Outputs of a node: the node itself and the results behind it.
constexpr int output_count(const Graph& g, int id) {
  int count = 1;
  while (has_result(g, id, count)) ++count;
  return count;
}

/// True for a node of the backward pass that nothing in it waits for: what it computes are sums over the batch,
/// gradients of parameters or on the way to them, or is read by such nodes alone.
constexpr bool runs_aside(const Graph& g, const Schedule& s, int id) {
  if (s.phase[id] != Phase::backward || g.nodes[id].op->kind != Kind::opaque) return false;
  const int outputs = output_count(g, id);
  const auto is_output = [&](int v) { return v >= id && v < id + outputs; };
  for (int k = 0; k < outputs; ++k)
    if (id + k == g.input_gradient) return false;
  bool only_sums = true;
  for (int k = 0; k < outputs; ++k) only_sums = only_sums && !per_batch(g.nodes[id + k].domain);
  if (only_sums) return true;
  for (int reader = id + outputs; reader < g.size; ++reader) {
    if (!s.live[reader]) continue;
    for (int k = 0; k < g.nodes[reader].operands; ++k)
      if (is_output(g.nodes[reader].operand[k]) && !runs_aside(g, s, reader)) return false;
  }
  return true;
}

namespace planning {

constexpr void mark_live(const Graph& g, Schedule& s) {
  s.live[g.output] = true;
  if (g.input_gradient >= 0) s.live[g.input_gradient] = true;
  for (int i = g.size - 1; i >= 0; --i) {
    const Node& n = g.nodes[i];
    if (n.op->kind == Kind::sink) s.live[i] = true;
    if (!s.live[i]) continue;
    for (int k = 0; k < n.operands; ++k) s.live[n.operand[k]] = true;
  }
  for (int i = 0; i < g.size; ++i) {
    const Node& n = g.nodes[i];
    if (n.op->kind == Kind::result && s.live[n.operand[0]]) s.live[i] = true;
    if (!s.live[i] || n.op->kind == Kind::result) continue;  // a further output reads nothing
    for (int k = 0; k < n.operands; ++k) ++s.uses[n.operand[k]];
  }
}

constexpr Phase phase_of(const Graph& g, const Schedule& s, int i) {
  const Node& n = g.nodes[i];
  if (n.op->kind == Kind::leaf) return Phase::none;
  if (n.op->kind == Kind::result) return s.phase[n.operand[0]];
  if (per_batch(n.domain)) return i < g.forward_size ? Phase::forward : Phase::backward;
  bool from_batch = false;
  bool from_gradient = false;
  for (int k = 0; k < n.operands; ++k) {
    const int o = n.operand[k];
    from_batch = from_batch || per_batch(g.nodes[o].domain);
    from_gradient = from_gradient || s.phase[o] == Phase::backward || s.phase[o] == Phase::epilogue;
  }
  if (from_batch) return Phase::backward;
  return from_gradient ? Phase::epilogue : Phase::prologue;
}

/// The largest set of rows among the operands of an operation: what it runs over.
constexpr Domain iteration_domain(const Graph& g, int id) {
  const Node& n = g.nodes[producer(g, id)];
  Domain d = Domain::one;
  for (int k = 0; k < n.operands; ++k) d = join(d, g.nodes[n.operand[k]].domain);
  return d;
}

/// True if the kernel that computes the operand of a sink may add to the parameter's gradient itself.
constexpr bool adds_directly(const Graph& g, const Schedule& s, int sink) {
  const int v = g.nodes[sink].operand[0];
  const Node& n = g.nodes[v];
  if (n.op->kind != Kind::opaque && n.op->kind != Kind::result) return false;
  return g.nodes[producer(g, v)].op->adds && s.uses[v] == 1 && n.domain != iteration_domain(g, v);
}

class Scheduler {
public:
  constexpr Scheduler(const Graph& g, unsigned passes, Schedule& s) : g_(g), s_(s), fuse_((passes & fusion) != 0) {}

  constexpr void run() {
    mark_live(g_, s_);
    for (int i = 0; i < g_.size; ++i) {
      s_.phase[i] = phase_of(g_, s_, i);
      s_.step_of[i] = -1;
    }
    for (int i = 0; i < g_.size; ++i)
      if (g_.nodes[i].op->kind == Kind::sink) s_.direct_sink[i] = adds_directly(g_, s_, i);
    for (int p = 0; p < phase_count; ++p) {
      s_.phase_begin[p] = s_.step_count;
      run_phase(static_cast<Phase>(p));
    }
    s_.phase_begin[phase_count] = s_.step_count;
  }

private:
  constexpr bool computed(int i) const {
    const Kind kind = g_.nodes[i].op->kind;
    return kind == Kind::elementwise || kind == Kind::opaque || (kind == Kind::sink && !s_.direct_sink[i]);
  }

  /// True if the value lies in memory before the current step.
  constexpr bool available(int i) const {
    const Node& n = g_.nodes[i];
    switch (n.op->kind) {
      case Kind::leaf:
        return true;
      case Kind::view:
      case Kind::result:
        return available(n.operand[0]);
      default:
        return s_.step_of[i] >= 0 && s_.step_of[i] < s_.step_count;
    }
  }

  constexpr bool ready(int i) const {
    const Node& n = g_.nodes[i];
    for (int k = 0; k < n.operands; ++k)
      if (!available(n.operand[k])) return false;
    return true;
  }

  /// True if the node can join the run being built: its operands are available or were computed in this run, column by
  /// column.
  constexpr bool joins(int i) const {
    const Node& n = g_.nodes[i];
    const bool maps_columns = n.op == &ops::tile_op || n.op == &ops::spread_op;
    for (int k = 0; k < n.operands; ++k) {
      const int o = n.operand[k];
      const bool here = s_.step_of[o] == s_.step_count && !maps_columns && g_.nodes[o].width == n.width;
      if (!here && !available(o)) return false;
    }
    return true;
  }

  /// Smaller is earlier: parameter gradients free their operands, recomputed values wait until they are needed.
  constexpr int rank(int i) const {
    const Operation* op = g_.nodes[i].op;
    if (op->kind == Kind::elementwise || op->kind == Kind::sink) return 2;
    if (op->adds) return 0;
    return op->cheap && s_.phase[i] == Phase::backward ? 3 : 1;
  }

  constexpr void run_phase(Phase phase) {
    int pending[Graph::capacity]{};
    int count = 0;
    for (int i = 0; i < g_.size; ++i)
      if (s_.live[i] && s_.phase[i] == phase && computed(i)) pending[count++] = i;
    while (count > 0) {
      int best = -1;
      for (int j = 0; j < count; ++j)
        if ((best < 0 || rank(pending[j]) < rank(pending[best])) && ready(pending[j])) best = j;
      if (best < 0) return;  // cannot happen: nodes are in order of computation
      const int first = pending[best];
      Step& step = s_.steps[s_.step_count];
      step.first = placed_;
      step.group = g_.nodes[first].op->kind == Kind::elementwise;
      take(pending, count, best);
      bool more = step.group && fuse_;
      while (more) {
        more = false;
        for (int j = 0; j < count && placed_ - step.first < longest_run; ++j) {
          const Node& n = g_.nodes[pending[j]];
          if (n.op->kind != Kind::elementwise || n.domain != g_.nodes[first].domain ||
              n.width != g_.nodes[first].width || !joins(pending[j]))
            continue;
          take(pending, count, j--);
          more = true;
        }
      }
      step.count = placed_ - step.first;
      ++s_.step_count;
    }
  }

  constexpr void take(int* pending, int& count, int j) {
    s_.step_of[pending[j]] = s_.step_count;
    s_.order[placed_++] = pending[j];
    for (int k = j + 1; k < count; ++k) pending[k - 1] = pending[k];
    --count;
  }

  const Graph& g_;
  Schedule& s_;
  bool fuse_;
  int placed_ = 0;
};

/// After nodes have moved from step to step: leaves out steps that have become empty, and orders the nodes of each step
/// as they are in the graph.
constexpr void renumber(const Graph& g, Schedule& s) {
  Step kept[Graph::capacity]{};
  int new_step[Graph::capacity]{};
  int steps = 0;
  int begin = 0;
  for (int p = 0; p < phase_count; ++p) {
    const int end = s.phase_begin[p + 1];
    s.phase_begin[p] = steps;
    for (int step = begin; step < end; ++step) {
      if (s.steps[step].count == 0) continue;
      kept[steps] = s.steps[step];
      kept[steps].first = steps == 0 ? 0 : kept[steps - 1].first + kept[steps - 1].count;
      new_step[step] = steps++;
    }
    begin = end;
  }
  s.phase_begin[phase_count] = steps;
  s.step_count = steps;
  int taken[Graph::capacity]{};
  for (int i = 0; i < g.size; ++i) {
    if (s.step_of[i] < 0) continue;
    const int step = s.step_of[i] = new_step[s.step_of[i]];
    s.order[kept[step].first + taken[step]++] = i;
  }
  for (int step = 0; step < Graph::capacity; ++step) s.steps[step] = kept[step];
}

}  // namespace planning

/// Orders the live nodes of a differentiated graph.
constexpr Schedule make_schedule(const Graph& graph, unsigned passes) {
  Schedule s;
  planning::Scheduler(graph, passes, s).run();
  return s;
}

}  // namespace mad
