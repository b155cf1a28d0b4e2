// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the code of a kernel's call depends on. Calls of equal form share their code, whatever layer they are in.
#pragma once

#include <mad/cuda/call/layout.hpp>
#include <mad/graph/fingerprint.hpp>

#include <cstdint>

namespace mad::cuda {

/// What a kernel may know at compile time of a value that it reads or writes.
struct ValueForm {
  int width = 0;
  Domain domain = Domain::tokens;
  bool is_short = false;      ///< stored in the activation's type
  bool is_parameter = false;  ///< a parameter or part of one
  int alignment = 0;          ///< bytes, see Layout::alignment

  constexpr void add_to(Fingerprint& print) const {
    for (const int fact : {width, static_cast<int>(domain), is_short ? 1 : 0, is_parameter ? 1 : 0, alignment})
      print.add(fact);
  }
};

/// A node with the forms of its operands and, behind them, of its outputs.
template <int Values>
struct CallForm {
  Node node;  ///< its operands' indices are 0: they belong to a graph
  ValueForm value[Values]{};

  /// Tells forms apart. The operation goes in by its name.
  constexpr std::uint64_t print() const {
    Fingerprint print;
    print.add(node.op->name);
    print.add(static_cast<int>(node.domain));
    print.add(node.width);
    print.add(node.operands);
    for (const int attribute : node.attribute) print.add(attribute);
    for (const double number : node.number) print.add(number);
    for (const ValueForm& v : value) v.add_to(print);
    return print.value();
  }
  constexpr bool has_operation_of(const CallForm& other) const { return node.op == other.node.op; }
};

/// Works out the form of a node at once: every further constant that reads the graph would cost its compiler a copy of
/// the graph.
template <class Low, int Id, class P>
constexpr auto make_call_form() {
  constexpr int operands = Low::nodes.at[Id].operands;
  CallForm<operands + Low::nodes.outputs[Id]> form;
  form.node = Low::nodes.at[Id];
  int next = 0;
  for (ValueForm& v : form.value) {
    const int id = next < operands ? form.node.operand[next] : Id + next - operands;
    ++next;
    v.width = Low::nodes.at[id].width;
    v.domain = Low::nodes.at[id].domain;
    v.is_short = Layout<Low, P>::is_short(id);
    v.is_parameter = Low::plan.location[id].space == Space::parameter;
    v.alignment = Layout<Low, P>::alignment(id);
  }
  for (int& operand : form.node.operand) operand = 0;
  return form;
}

}  // namespace mad::cuda
