// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a layer is, and what follows from it: graph, plan, counts.
#pragma once

#include <mad/graph/addends.hpp>
#include <mad/graph/diagnosis.hpp>
#include <mad/graph/differentiate.hpp>
#include <mad/graph/fingerprint.hpp>
#include <mad/graph/plan.hpp>

#include <concepts>
#include <string_view>

namespace mad {

/// A layer is a type with a name and a forward pass. Nothing else is needed and nothing is registered:
///
///     struct Halve {
///       static constexpr std::string_view name = "halve";
///       static constexpr mad::Value forward(mad::Value x) { return x * 0.5; }
///     };
///
/// `forward` maps (B, L, D) to (B, L, D): it gets the tokens of width D and returns a value of one row per token. It
/// must be causal and treat sequences independently; `mad::testing::check_layer` proves both.
template <class L>
concept Layer = requires(Value x) {
  { L::name } -> std::convertible_to<std::string_view>;
  { L::forward(x) } -> std::same_as<Value>;
};

/// A layer whose published form departs from what its paper describes names the latter as `Intended`.
template <class L>
struct IntendedOf {
  using type = L;
};
template <class L>
requires requires { typename L::Intended; }
struct IntendedOf<L> {
  using type = typename L::Intended;
};

/// The forward pass and, behind it, the backward pass of a layer at a width.
template <Layer L, int Width>
constexpr Graph build_graph(unsigned passes) {
  Graph g;
  Node in;
  in.op = &ops::input_op;
  in.domain = Domain::tokens;
  in.width = Width;
  g.append(in);
  Value x{&g, 0};
  Value y;
  y = L::forward(x);
  // Whatever is shared by the batch is computed before the batch is seen.
  for (int i = 0; i < g.size; ++i)
    for (int k = 0; k < g.nodes[i].operands; ++k)
      if (!per_batch(g.nodes[i].domain) && per_batch(g.nodes[g.nodes[i].operand[k]].domain))
        g.fail(Fault::wrong_domain, static_cast<int>(g.nodes[i].domain), 0);
  // A parameter that no operation takes has no gradient; optimisers leave it alone.
  for (int i = 0; i < g.size; ++i) {
    if (g.nodes[i].op != &ops::parameter_op) continue;
    bool read = false;
    for (int j = i + 1; j < g.size; ++j)
      for (int k = 0; k < g.nodes[j].operands; ++k) read = read || g.nodes[j].operand[k] == i;
    g.parameters[g.nodes[i].attribute[0]].trained = read;
  }
  if (y.domain() != Domain::tokens) g.fail(Fault::wrong_domain, static_cast<int>(y.domain()), 0);
  const Kind kind = y.node().op->kind;
  // The output is memory of the model: give it a node that writes there and nowhere else.
  if (kind != Kind::elementwise && kind != Kind::opaque) y = ops::make(g, ops::copy_op, y.domain(), y.width(), y);
  g.output = y.id;
  if (g.fault == Fault::none) {
    Differentiator d(g,
                     {.cheap = (passes & recompute) != 0,
                      .but_kernels = (passes & save_kernels) != 0,
                      .but_operands = (passes & save_operands) != 0,
                      .inside_mixers = (passes & channel_mixers) != 0},
                     (passes & stored_factors) != 0);
    d.run();
    if (g.fault == Fault::none) {
      AddendAbsorber(g).run();
      const Node& dx = g.nodes[g.input_gradient >= 0 ? g.input_gradient : 0];
      if (g.input_gradient < 0) {
        g.input_gradient = zeros(g, Domain::tokens, Width).id;
      } else if (dx.op->kind != Kind::elementwise && dx.op->kind != Kind::opaque) {
        Value v{&g, g.input_gradient};
        g.input_gradient = ops::make(g, ops::copy_op, v.domain(), v.width(), v).id;
      }
    }
  }
  return g;
}

/// The parameters of a graph, without room for more.
template <int Count>
struct ParameterList {
  Parameter parameters[Count > 0 ? Count : 1]{};

  constexpr explicit ParameterList(const Graph& graph) {
    for (int i = 0; i < Count; ++i) parameters[i] = graph.parameters[i];
  }
};

/// The nodes of a graph, without room for more, and how many outputs each has.
template <int Count>
struct NodeList {
  Node at[Count]{};
  int outputs[Count]{};

  constexpr explicit NodeList(const Graph& graph) {
    for (int i = 0; i < Count; ++i) {
      at[i] = graph.nodes[i];
      outputs[i] = output_count(graph, i);
    }
  }
};

/// What code is generated for: the kernels and runs of a plan in order. Compilers turn a constant into memory each time
/// an expression reads from it, so the steps of a layer read from this list and not from the whole plan.
template <int Count>
struct StepList {
  int node[Count > 0 ? Count : 1]{};  ///< the first that the step computes
  const Operation* op[Count > 0 ? Count : 1]{};
  bool is_run[Count > 0 ? Count : 1]{};
  bool is_mixer[Count > 0 ? Count : 1]{};
  bool runs_aside[Count > 0 ? Count : 1]{};
  int phase_begin[phase_count + 1]{};

  constexpr StepList(const Graph& graph, const Schedule& s) {
    for (int i = 0; i < Count; ++i) {
      node[i] = s.order[s.steps[i].first];
      op[i] = graph.nodes[node[i]].op;
      is_run[i] = s.steps[i].group;
      is_mixer[i] = s.steps[i].mixer;
      runs_aside[i] = mad::runs_aside(graph, s, node[i]);
    }
    for (int p = 0; p <= phase_count; ++p) phase_begin[p] = s.phase_begin[p];
  }
};

/// The values of a plan whose size a device tells, by slot.
template <int Count>
struct PreparedList {
  int node[Count > 0 ? Count : 1]{};
  const Operation* op[Count > 0 ? Count : 1]{};

  constexpr PreparedList(const Graph& graph, const Plan& plan) {
    for (int i = 0; i < graph.size; ++i) {
      if (!graph.nodes[i].op->prepared || !plan.schedule.live[i]) continue;
      node[plan.location[i].base] = i;
      op[plan.location[i].base] = graph.nodes[i].op;
    }
  }
};

/// A layer at a width: the only tag that generated code carries. `Passes` switches planner passes off, for proofs.
template <Layer L, int Width, unsigned Passes = all_passes>
struct Lowered {
  using Description = L;
  static constexpr int width = Width;
  static constexpr Graph graph = build_graph<L, Width>(Passes);
  static_assert(Diagnosis<L, Width, graph.fault, graph.fault_a, graph.fault_b, graph.fault_line>::value);
  static constexpr int output_width = graph.nodes[graph.output].width;
  static constexpr Plan plan = make_plan(graph, Passes);
  // What is needed at run time. The graph and its plan, some 60 KB, then stay out of the program.
  static constexpr ParameterList<graph.parameter_count> parameters{graph};
  static constexpr Arenas arenas = plan.arenas;
  static constexpr NodeList<graph.size> nodes{graph};
  static constexpr StepList<plan.schedule.step_count> steps{graph, plan.schedule};
  static constexpr PreparedList<plan.arenas.prepared_count> prepared{graph, plan};
  static constexpr std::uint64_t fingerprint = graph.fingerprint;
};

}  // namespace mad
