// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Where values lie: liveness, reuse, views, and the sizes of the arenas.
#pragma once

#include <mad/graph/channel_mixer.hpp>
#include <mad/graph/delay.hpp>

namespace mad {

/// The memory a value lies in. Sizes of all but the first group are known at compile time, in columns per row.
enum class Space : unsigned char {
  registers,           ///< lives only inside one elementwise loop, or one channel mixer
  input,               ///< the layer's input, owned by the model
  output,              ///< its output
  output_gradient,     ///< gradient of the output
  input_gradient,      ///< gradient of the input
  parameter,           ///< `base` is the parameter's index
  parameter_gradient,  ///< likewise; always added to
  constant,            ///< likewise
  prologue,            ///< computed once per step, read by all micro-batches
  prepared,            ///< `base` is a slot; the device decides what lies there
  saved,               ///< from the forward pass of a micro-batch to its backward pass
  scratch,             ///< within one pass of one layer; shared by all layers
  accumulator,         ///< gradients of prologue values, added over micro-batches; zeroed by the executor
  epilogue,            ///< scratch of the epilogue; zeroed by the executor
};
inline constexpr int space_count = 14;

/// Place of a value: `base` columns into the space's arena for its domain (each arena holds base * rows before it),
/// then `column` to the right in rows of `stride` columns.
struct Location {
  Space space = Space::registers;
  Domain domain = Domain::tokens;
  int base = 0;
  int column = 0;
  int stride = 0;
};

/// What an executor allocates for a layer, at run time.
struct Arenas {
  int columns[space_count][domain_count]{};  ///< columns per row that an arena needs
  int prepared_count = 0;
  bool has_epilogue = false;

  constexpr int columns_of(Space space, Domain domain) const {
    return columns[static_cast<int>(space)][static_cast<int>(domain)];
  }
};

/// Everything the executors need besides the graph itself.
struct Plan {
  Schedule schedule{};
  Location location[Graph::capacity]{};
  Arenas arenas{};
};

namespace planning {

class Planner {
public:
  constexpr Planner(const Graph& g, unsigned passes, Plan& plan)
      : g_(g), s_(plan.schedule), plan_(plan), passes_(passes) {}

  constexpr void run() {
    find_aliases();
    find_intervals();
    place_fixed();
    place_computed();
    place_aliases();
  }

private:
  constexpr int root(int i) const {
    while (parent_[i] >= 0) i = parent_[i];
    return i;
  }
  constexpr int step_of(int i) const { return s_.step_of[producer(g_, i)]; }
  constexpr Kind kind(int i) const { return g_.nodes[i].op->kind; }
  constexpr bool stored(int i) const {
    return kind(i) == Kind::elementwise || kind(i) == Kind::opaque || kind(i) == Kind::result;
  }

  constexpr bool may_be_in_registers(int i) const {
    return kind(i) == Kind::elementwise || (kind(i) == Kind::opaque && s_.steps[step_of(i)].mixer);
  }

  constexpr void find_aliases() {
    for (int i = 0; i < g_.size; ++i) parent_[i] = -1;
    for (int i = 0; i < g_.size; ++i) {
      if (!s_.live[i]) continue;
      const Node& n = g_.nodes[i];
      if (n.op->kind == Kind::view) {
        parent_[i] = n.operand[0];
        column_[i] = n.attribute[0];
      }
      if (n.op != &ops::concat_op || (passes_ & concat_views) == 0) continue;
      int column = 0;
      for (int k = 0; k < n.operands; ++k) {
        const int part = n.operand[k];
        // A part that anyone else reads from memory, or that has a place already, stays where it is and is copied.
        if (stored(part) && only_concat_reads(part) && part != g_.output && part != g_.input_gradient &&
            s_.phase[part] == s_.phase[i] && parent_[part] < 0) {
          parent_[part] = i;
          column_[part] = column;
        }
        column += g_.nodes[part].width;
      }
    }
  }

  /// True if one node reads a value from memory: the others are of its own run.
  constexpr bool only_concat_reads(int part) const {
    if (kind(part) != Kind::elementwise) return s_.uses[part] == 1;
    int readers = 0;
    for (int i = part + 1; i < g_.size; ++i) {
      if (!s_.live[i] || kind(i) == Kind::result) continue;
      for (int k = 0; k < g_.nodes[i].operands; ++k)
        if (g_.nodes[i].operand[k] == part && (kind(i) != Kind::elementwise || s_.step_of[i] != s_.step_of[part]))
          ++readers;
    }
    return readers == 1;
  }

  constexpr int last_step(Phase phase) const { return s_.phase_begin[static_cast<int>(phase) + 1] - 1; }

  /// First and last step in which the memory of each root is in use, and whether it crosses into the backward pass.
  constexpr void find_intervals() {
    for (int i = 0; i < g_.size; ++i) {
      begin_[i] = Graph::capacity;
      end_[i] = -1;
    }
    for (int i = 0; i < g_.size; ++i) {
      if (!s_.live[i]) continue;
      const int r = root(i);
      if (stored(i)) {
        begin_[r] = begin_[r] < step_of(i) ? begin_[r] : step_of(i);
        end_[r] = end_[r] > step_of(i) ? end_[r] : step_of(i);
      }
      const bool computes = stored(i) || (kind(i) == Kind::sink && !s_.direct_sink[i]);
      if (!computes || kind(i) == Kind::result) continue;
      const Node& n = g_.nodes[i];
      for (int k = 0; k < n.operands; ++k) {
        const int o = n.operand[k];
        const int q = root(o);
        end_[q] = end_[q] > step_of(i) ? end_[q] : step_of(i);
        if ((passes_ & room_aside) != 0 && runs_aside(g_, s_, i)) end_[q] = last_step(Phase::backward);
        if (s_.phase[i] == Phase::backward) crosses_[q] = true;
        // Within a run a value stays in a register, unless somebody reads it by another name.
        if (parent_[o] >= 0 || step_of(o) != step_of(i) || !may_be_in_registers(o)) needs_memory_[q] = true;
      }
    }
  }

  constexpr void place(int i, Space space, int base) {
    const Node& n = g_.nodes[i];
    plan_.location[i] = {space, n.domain, base, 0, n.width};
    placed_[i] = true;
  }
  constexpr void place_next(int i, Space space) {
    int& columns = plan_.arenas.columns[static_cast<int>(space)][static_cast<int>(g_.nodes[i].domain)];
    columns = aligned(columns, g_.nodes[i].width);
    place(i, space, columns);
    columns += g_.nodes[i].width;
  }
  /// The next column at which a value of \p width columns may begin: one of whole groups of eight at such a group, so
  /// that an odd width before it does not keep it from being read in groups.
  static constexpr int aligned(int base, int width) { return width % 8 == 0 ? (base + 7) / 8 * 8 : base; }

  constexpr void place_fixed() {
    for (int i = 0; i < g_.size; ++i) {
      const Node& n = g_.nodes[i];
      if (n.op == &ops::input_op) place(i, Space::input, 0);
      if (n.op == &ops::output_gradient_op) place(i, Space::output_gradient, 0);
      if (n.op == &ops::parameter_op) place(i, Space::parameter, n.attribute[0]);
      if (n.op == &ops::constant_op) place(i, Space::constant, n.attribute[0]);
      if (n.op->kind == Kind::sink) {
        place(i, Space::parameter_gradient, n.attribute[0]);
        if (s_.direct_sink[i]) place(n.operand[0], Space::parameter_gradient, n.attribute[0]);
      }
    }
    place(g_.output, Space::output, 0);
    if (g_.input_gradient >= 0) place(g_.input_gradient, Space::input_gradient, 0);
    for (int i = 0; i < g_.size; ++i) {
      if (!s_.live[i] || placed_[i] || !stored(i) || parent_[i] >= 0) continue;
      const Node& n = g_.nodes[i];
      if (n.op->prepared) {
        place(i, Space::prepared, plan_.arenas.prepared_count++);
      } else if (may_be_in_registers(i) && !needs_memory_[i]) {
        plan_.location[i].space = Space::registers;
        placed_[i] = true;
      } else if (s_.phase[i] == Phase::prologue) {
        place_next(i, Space::prologue);
      } else if (s_.phase[i] == Phase::epilogue) {
        place_next(i, Space::epilogue);
      } else if (!per_batch(n.domain)) {
        place_next(i, Space::accumulator);
      } else if (s_.phase[i] == Phase::forward && crosses_[i]) {
        place_next(i, Space::saved);
      }
    }
  }

  struct Block {
    int owner;
    int base;
    int width;
  };

  constexpr void place_computed() {
    for (Phase phase : {Phase::forward, Phase::backward}) {
      block_count_ = 0;
      const int begin = s_.phase_begin[static_cast<int>(phase)];
      const int end = s_.phase_begin[static_cast<int>(phase) + 1];
      for (int step = begin; step < end; ++step) {
        for (int i = 0; i < g_.size; ++i) {
          if (!s_.live[i] || placed_[i] || !stored(i) || parent_[i] >= 0 || begin_[i] != step) continue;
          if (!overwrite_operand(i, step)) first_fit(i);
        }
        for (int b = 0; b < block_count_; ++b)
          if (end_[blocks_[b].owner] == step) blocks_[b--] = blocks_[--block_count_];
      }
    }
  }

  constexpr void add_block(int i, int base) {
    const Node& n = g_.nodes[i];
    place(i, Space::scratch, base);
    int& columns = plan_.arenas.columns[static_cast<int>(Space::scratch)][static_cast<int>(n.domain)];
    columns = columns > base + n.width ? columns : base + n.width;
    if ((passes_ & reuse) != 0)
      blocks_[block_count_++] = {i, base, n.width};
    else
      next_base_[static_cast<int>(n.domain)] += n.width;
  }

  constexpr void first_fit(int i) {
    const Node& n = g_.nodes[i];
    if ((passes_ & reuse) == 0) {
      int& next = next_base_[static_cast<int>(n.domain)];
      next = aligned(next, n.width);
      return add_block(i, next);
    }
    int base = 0;
    bool moved = true;
    while (moved) {
      moved = false;
      for (int b = 0; b < block_count_; ++b) {
        if (g_.nodes[blocks_[b].owner].domain != n.domain) continue;
        if (base < blocks_[b].base + blocks_[b].width && blocks_[b].base < base + n.width) {
          base = aligned(blocks_[b].base + blocks_[b].width, n.width);
          moved = true;
        }
      }
    }
    add_block(i, base);
  }

  /// Gives node i the memory of an operand that nobody reads after this step, if every reader in the step takes an
  /// element only to compute the same element.
  constexpr bool overwrite_operand(int i, int step) {
    if ((passes_ & in_place) == 0 || (passes_ & reuse) == 0 || step_of(i) != step) return false;
    const Step& run = s_.steps[step];
    const Node& n = g_.nodes[i];
    if (!run.group && (kind(i) != Kind::opaque || n.op->in_place < 0 || n.op->in_place >= n.operands)) return false;
    for (int b = 0; b < block_count_; ++b) {
      const int owner = blocks_[b].owner;
      if (end_[owner] != step || begin_[owner] == step || g_.nodes[owner].domain != n.domain ||
          blocks_[b].width != n.width)
        continue;
      if (!only_same_element(owner, run, i)) continue;
      place(i, Space::scratch, blocks_[b].base);
      blocks_[b].owner = i;
      return true;
    }
    return false;
  }

  constexpr bool only_same_element(int owner, const Step& run, int i) const {
    bool read = false;
    for (int m = run.first; m < run.first + run.count; ++m) {
      const Node& reader = g_.nodes[s_.order[m]];
      for (int k = 0; k < reader.operands; ++k) {
        if (root(reader.operand[k]) != owner) continue;
        if (reader.operand[k] != owner) return false;  // a view: other columns
        if (run.group && (reader.op == &ops::tile_op || reader.op == &ops::spread_op)) return false;
        if (!run.group && k != g_.nodes[i].op->in_place) return false;
        read = true;
      }
    }
    return read;
  }

  constexpr void place_aliases() {
    for (int i = 0; i < g_.size; ++i) {
      if (!s_.live[i] || parent_[i] < 0) continue;
      int column = 0;
      int r = i;
      while (parent_[r] >= 0) {
        column += column_[r];
        r = parent_[r];
      }
      plan_.location[i] = plan_.location[r];
      plan_.location[i].column += column;
    }
  }

  const Graph& g_;
  const Schedule& s_;
  Plan& plan_;
  unsigned passes_;
  int parent_[Graph::capacity]{};
  int column_[Graph::capacity]{};
  int begin_[Graph::capacity]{};
  int end_[Graph::capacity]{};
  bool crosses_[Graph::capacity]{};
  bool needs_memory_[Graph::capacity]{};
  bool placed_[Graph::capacity]{};
  Block blocks_[Graph::capacity]{};
  int block_count_ = 0;
  int next_base_[domain_count]{};
};

}  // namespace planning

/// Schedules a differentiated graph and gives every value its place.
constexpr Plan make_plan(const Graph& graph, unsigned passes = all_passes) {
  Plan plan;
  plan.schedule = make_schedule(graph, passes);
  if ((passes & fusion) != 0) planning::Delay(graph, plan.schedule).run();
  if ((passes & channel_mixers) != 0) planning::ChannelMixers(graph, plan.schedule, (passes & mixer_norms) != 0).run();
  planning::Planner(graph, passes, plan).run();
  const int* begin = plan.schedule.phase_begin;
  plan.arenas.has_epilogue = begin[static_cast<int>(Phase::epilogue)] != begin[static_cast<int>(Phase::epilogue) + 1];
  return plan;
}

}  // namespace mad
