// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Executes a plan on symbols instead of numbers. Every cell of memory remembers which element of which value was last
/// written to it; whoever reads an element must find exactly that one. Knows nothing of liveness or of how places are
/// chosen, only what a `Location` means and what executors do.
#pragma once

#include "mixer_tables.hpp"

#include <map>
#include <set>
#include <sstream>
#include <string>
#include <tuple>

namespace mad::testing {

class PlanChecker {
public:
  /// Returns what is wrong, or nothing. With \p aside, what may run beside the backward pass may also run after it.
  static std::string check(const Graph& graph, const Plan& plan, bool aside = false) {
    PlanChecker checker(graph, plan);
    checker.aside_ = aside;
    checker.run();
    return checker.problem_;
  }

private:
  static constexpr Shape shape{.batch = 2, .length = 3, .max_length = 4};

  /// An element of a value.
  struct Element {
    int node = -1;
    Index row = 0;
    int column = 0;
    bool operator==(const Element&) const = default;
  };
  using Address = std::tuple<Space, Domain, int, Index>;  // the third tells parameters and slots apart

  PlanChecker(const Graph& graph, const Plan& plan) : g_(graph), plan_(plan) {}

  void run() {
    for (int i = 0; i < g_.size; ++i)
      if (g_.nodes[i].op->kind == Kind::leaf && plan_.schedule.live[i]) write(i);
    for (int p = 0; p < phase_count; ++p) {
      phase_ = static_cast<Phase>(p);
      forget(Space::scratch);
      for (int step = plan_.schedule.phase_begin[p]; step < plan_.schedule.phase_begin[p + 1]; ++step) run_step(step);
      if (static_cast<Phase>(p) == Phase::forward) expect(g_.output, Space::output, "the output");
      if (static_cast<Phase>(p) == Phase::backward) {
        expect(g_.output, Space::output, "the output, after the backward pass,");
        expect(g_.input_gradient, Space::input_gradient, "the gradient of the input");
        for (int i = 0; aside_ && i < g_.size; ++i)
          if (plan_.schedule.live[i] && computed(i) && !in_mixer(i) && runs_aside(g_, plan_.schedule, i))
            for (int k = 0; k < g_.nodes[i].operands; ++k) read_all(g_.nodes[i].operand[k], i);
      }
    }
    for (int i = 0; i < g_.size; ++i) {
      if (g_.nodes[i].op->kind == Kind::sink && sunk_[i] != 1)
        fail(i, "reaches its parameter's gradient " + std::to_string(sunk_[i]) + " times");
      if (plan_.schedule.live[i] && computed(i) && executed_.count(i) == 0) fail(i, "is never computed");
    }
  }

  /// Memory that exists in the current phase and may be written; the backward pass of a micro-batch knows nothing of
  /// what is made of its gradients, and what is made of them once a step knows nothing of any micro-batch.
  bool writable(Space space) const {
    switch (phase_) {
      case Phase::none:
        return true;
      case Phase::prologue:
        return space == Space::prologue || space == Space::prepared;
      case Phase::forward:
        return space == Space::scratch || space == Space::saved || space == Space::output;
      case Phase::backward:
        return space == Space::scratch || space == Space::accumulator || space == Space::input_gradient;
      case Phase::epilogue:
        return space == Space::epilogue;
    }
    return false;
  }
  bool readable(Space space) const {
    if (space == Space::parameter || space == Space::constant) return true;
    if (space == Space::prologue || space == Space::prepared) return true;
    const bool of_the_batch = space == Space::input || space == Space::output || space == Space::saved;
    switch (phase_) {
      case Phase::none:
      case Phase::prologue:
        return false;
      case Phase::forward:
        return of_the_batch || space == Space::scratch;
      case Phase::backward:
        return of_the_batch || space == Space::scratch || space == Space::output_gradient ||
               space == Space::input_gradient;
      case Phase::epilogue:
        return space == Space::accumulator || space == Space::epilogue;
    }
    return false;
  }

  bool computed(int i) const {
    const Kind kind = g_.nodes[i].op->kind;
    return kind == Kind::elementwise || kind == Kind::opaque;
  }

  void run_step(int index) {
    const Step& step = plan_.schedule.steps[index];
    if (step.group) return run_group(step);
    if (step.mixer) return run_mixer(index);
    if (step.count != 1) return fail(plan_.schedule.order[step.first], "shares a step that is no loop");
    const int node = plan_.schedule.order[step.first];
    const Node& n = g_.nodes[node];
    for (int k = 0; k < n.operands; ++k) read_all(n.operand[k], node);
    execute(node);
    if (n.op->kind == Kind::sink) {
      sink(node);
      return;
    }
    for (int o = node; o == node || (o < g_.size && is_output(o, node)); ++o) {
      // A kernel may write before it has read everything.
      for (int k = 0; k < n.operands; ++k)
        if (!may_overlap(n, node, o, k)) apart(o, n.operand[k]);
      write(o);
    }
  }

  void execute(int node) {
    if (!executed_.insert(node).second) fail(node, "is computed twice");
  }

  bool is_output(int i, int node) const {
    return g_.nodes[i].op->kind == Kind::result && g_.nodes[i].operand[0] == node;
  }

  bool may_overlap(const Node& n, int node, int output, int k) const {
    if (n.op == &ops::concat_op) return true;  // copies to itself, or elsewhere: cells tell
    return output == node && k == n.op->in_place && same_place(output, n.operand[k]);
  }
  bool same_place(int i, int j) const {
    const Location& a = plan_.location[i];
    const Location& b = plan_.location[j];
    return a.space == b.space && a.domain == b.domain && a.base == b.base && a.column == b.column &&
           a.stride == b.stride && g_.nodes[i].width == g_.nodes[j].width;
  }

  /// One element after the other, the rows of the loop outside: what is overwritten may not be read any more.
  void run_group(const Step& step) {
    const Node& first = g_.nodes[plan_.schedule.order[step.first]];
    std::set<int> members;
    for (int m = step.first; m < step.first + step.count; ++m) {
      const int i = plan_.schedule.order[m];
      const Node& n = g_.nodes[i];
      if (n.op->kind != Kind::elementwise || n.domain != first.domain || n.width != first.width)
        return fail(i, "does not fit the loop that it is in");
    }
    for (Index row = 0; row < rows_of(first.domain, shape); ++row) {
      for (int c = 0; c < first.width; ++c) {
        members.clear();
        for (int m = step.first; m < step.first + step.count; ++m) {
          const int i = plan_.schedule.order[m];
          const Node& n = g_.nodes[i];
          for (int k = 0; k < n.operands; ++k) {
            const int o = n.operand[k];
            const int wide = g_.nodes[o].width;
            const int column = n.op == &ops::tile_op     ? c % wide
                               : n.op == &ops::spread_op ? c / (n.width / wide)
                               : wide == 1               ? 0
                                                         : c;
            if (members.count(o) != 0 && wide == n.width) continue;  // in a register
            read(o, row_in(g_.nodes[o].domain, first.domain, row), column, i);
          }
          members.insert(i);
        }
        for (int i : members)
          if (plan_.location[i].space != Space::registers) write(i, row, c);
      }
    }
    for (int i : members) execute(i);
  }

  bool in_mixer(int i) const {
    const int step = plan_.schedule.step_of[i];
    return step >= 0 && plan_.schedule.steps[step].mixer;
  }
  bool in_registers(int i) const { return plan_.location[i].space == Space::registers; }

  /// As its kernel goes, by what the tables say: rows of the inputs are read first, then those of a norm in front and
  /// of members are written, then the addend's are read and the result's written. Blocks of rows do that in any order,
  /// so whatever is written may lie on nothing that is read, but for the result on the addend.
  void run_mixer(int index) {
    const MixerTables tables(g_, plan_, index);
    const RunTable& run = tables.run;
    const MixerTable& t = tables.mixer;
    const int first = plan_.schedule.order[plan_.schedule.steps[index].first];
    if (!tables.agree()) return fail(first, "is in a mixer that its table misses");
    std::set<int> reads(t.inputs, t.inputs + t.input_count);
    reads.insert(t.weights, t.weights + t.weight_count);
    if (t.addend >= 0) reads.insert(t.addend);
    std::set<int> stored;
    for (int m = 0; m < run.count; ++m)
      if (!in_registers(run.members[m])) stored.insert(run.members[m]);
    if (t.norm >= 0 && !in_registers(t.norm)) stored.insert(t.norm);
    stored.insert(t.result());
    for (const int i : stored)
      for (const int o : reads)
        if (i != t.result() || o != t.addend || !same_place(i, o)) apart(i, o);
    for (int w = 0; w < t.weight_count; ++w) read_all(t.weights[w], first);
    for (int k = 1; t.norm >= 0 && k < g_.nodes[t.norm].operands; ++k) read_all(g_.nodes[t.norm].operand[k], t.norm);
    const auto columns = [&](int node, const auto& use) {
      for (int c = 0; c < g_.nodes[node].width; ++c) use(c);
    };
    for (Index row = 0; row < rows_of(Domain::tokens, shape); ++row) {
      for (int i = 0; i < t.input_count; ++i) columns(t.inputs[i], [&](int c) { read(t.inputs[i], row, c, first); });
      for (const int i : stored)
        if (i != t.result()) columns(i, [&](int c) { write(i, row, c); });
      if (t.addend >= 0) columns(t.addend, [&](int c) { read(t.addend, row, c, t.result()); });
      columns(t.result(), [&](int c) { write(t.result(), row, c); });
    }
    for (int m = 0; m < run.count; ++m) execute(run.members[m]);
    for (int k = 0; k < t.in_count; ++k) execute(t.in[k].node);
    for (int k = 0; k < t.out_count; ++k) execute(t.out[k].node);
    if (t.norm >= 0) execute(t.norm);
  }

  static Index row_in(Domain narrow, Domain wide, Index row) {
    if (narrow == wide) return row;
    if (narrow == Domain::positions) return row % shape.length;
    if (narrow == Domain::sequences) return row / shape.length;
    return 0;
  }

  /// The element that was computed: views and concats only rename.
  Element origin(int node, Index row, int column) const {
    while (true) {
      const Node& n = g_.nodes[node];
      if (n.op == &ops::slice_op) {
        column += n.attribute[0];
        node = n.operand[0];
      } else if (n.op == &ops::concat_op) {
        int k = 0;
        while (column >= g_.nodes[n.operand[k]].width) column -= g_.nodes[n.operand[k++]].width;
        node = n.operand[k];
      } else {
        return {node, row, column};
      }
    }
  }

  Address address(int node, Index row, int column) {
    const Location& l = plan_.location[node];
    const Index in_block = row * l.stride + l.column + column;
    const bool named = l.space == Space::parameter || l.space == Space::parameter_gradient ||
                       l.space == Space::constant || l.space == Space::prepared;
    if (named) return {l.space, l.domain, l.base, in_block};
    if (l.column + g_.nodes[node].width > l.stride) fail(node, "reaches beyond its row");
    const bool arena = l.space == Space::prologue || l.space == Space::saved || l.space == Space::scratch ||
                       l.space == Space::accumulator || l.space == Space::epilogue;
    if (arena && l.base + l.stride > plan_.arenas.columns_of(l.space, l.domain)) fail(node, "reaches beyond its arena");
    return {l.space, l.domain, 0, l.base * rows_of(l.domain, shape) + in_block};
  }

  void read(int node, Index row, int column, int reader) {
    if (plan_.location[node].space == Space::registers) return fail(node, "is read from memory that it does not have");
    if (!readable(plan_.location[node].space)) return fail(node, "is read where its memory does not exist");
    const auto found = memory_.find(address(node, row, column));
    const Element wanted = origin(node, row, column);
    if (found != memory_.end() && found->second == wanted) return;
    std::ostringstream text;
    text << "is read by node " << reader << " (" << g_.nodes[reader].op->name << "), row " << row << ", column "
         << column << ", where ";
    if (found == memory_.end())
      text << "nothing was written";
    else
      text << "node " << found->second.node << " has written";
    fail(node, text.str());
  }
  void read_all(int node, int reader) {
    for (Index row = 0; row < rows_of(g_.nodes[node].domain, shape); ++row)
      for (int c = 0; c < g_.nodes[node].width; ++c) read(node, row, c, reader);
  }

  void write(int node, Index row, int column) {
    const Address a = address(node, row, column);
    const Space space = std::get<0>(a);
    if (!writable(space)) return fail(node, "is written where its memory does not exist");
    // These are added to, over all micro-batches: nobody else may have been there.
    const bool kept = space == Space::accumulator || space == Space::epilogue || space == Space::prologue;
    const Element element = origin(node, row, column);
    if (kept && memory_.count(a) != 0 && memory_[a] != element) fail(node, "is written over another value");
    memory_[a] = element;
  }
  void write(int node) {
    if (plan_.location[node].space == Space::parameter_gradient) {
      for (int i = 0; i < g_.size; ++i)
        if (g_.nodes[i].op->kind == Kind::sink && g_.nodes[i].operand[0] == node) sink(i);
      return;
    }
    if (plan_.location[node].space == Space::registers) return fail(node, "has no memory");
    for (Index row = 0; row < rows_of(g_.nodes[node].domain, shape); ++row)
      for (int c = 0; c < g_.nodes[node].width; ++c) write(node, row, c);
  }

  void sink(int node) {
    ++sunk_[node];
    if (phase_ != Phase::backward && phase_ != Phase::epilogue) fail(node, "is added to before there is a gradient");
    const Location& l = plan_.location[node];
    const Location& from = plan_.location[g_.nodes[node].operand[0]];
    const int parameter = g_.nodes[node].attribute[0];
    if (l.space != Space::parameter_gradient || l.base != parameter || l.column != 0 ||
        l.stride != g_.nodes[node].width || l.domain != g_.nodes[node].domain)
      fail(node, "is not the place of its parameter's gradient");
    if (plan_.schedule.direct_sink[node] &&
        (from.space != Space::parameter_gradient || from.base != parameter || from.stride != l.stride))
      fail(node, "is said to be added to directly, but is not");
  }

  void apart(int a, int b) {
    std::set<Address> cells;
    for (Index row = 0; row < rows_of(g_.nodes[a].domain, shape); ++row)
      for (int c = 0; c < g_.nodes[a].width; ++c) cells.insert(address(a, row, c));
    for (Index row = 0; row < rows_of(g_.nodes[b].domain, shape); ++row)
      for (int c = 0; c < g_.nodes[b].width; ++c)
        if (cells.count(address(b, row, c)) != 0) return fail(a, "lies on its operand, node " + std::to_string(b));
  }

  void expect(int node, Space space, const std::string& what) {
    if (plan_.location[node].space != space || plan_.location[node].stride != g_.nodes[node].width)
      return fail(node, "is " + what + " but lies elsewhere");
    read_all(node, node);
  }

  void forget(Space space) {
    std::erase_if(memory_, [&](const auto& cell) { return std::get<0>(cell.first) == space; });
  }

  void fail(int node, const std::string& what) {
    if (problem_.empty())
      problem_ = "node " + std::to_string(node) + " (" + std::string(g_.nodes[node].op->name) + ") " + what;
  }

  const Graph& g_;
  const Plan& plan_;
  bool aside_ = false;
  Phase phase_ = Phase::none;
  std::map<Address, Element> memory_;
  std::set<int> executed_;
  int sunk_[Graph::capacity]{};
  std::string problem_;
};

}  // namespace mad::testing
