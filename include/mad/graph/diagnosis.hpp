// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The words for what is wrong in a layer's `forward`.
#pragma once

#include <mad/graph/graph.hpp>

namespace mad {

/// Turns a recorded fault into one worded error. The template arguments in the compiler's message are: the layer, its
/// width, the fault, the two numbers the words speak of, and the line in `forward` (0 where it is not known).
template <class Layer, int Width, Fault What, int A, int B, int Line>
struct Diagnosis {
  static_assert(What != Fault::widths_differ,
                "mad: in this layer's forward, two values that must have the same width have widths A and B; "
                "see Diagnosis<Layer, Width, Fault, A, B, Line> in the lines around.");
  static_assert(What != Fault::slice_outside,
                "mad: in this layer's forward, a slice reaches column A of a value that has only B columns; "
                "see Diagnosis<Layer, Width, Fault, A, B, Line> in the lines around.");
  static_assert(What != Fault::not_divisible,
                "mad: in this layer's forward, A must be a multiple of B (a width and its heads, groups or tiles; an "
                "even rotary size); see Diagnosis<Layer, Width, Fault, A, B, Line> in the lines around.");
  static_assert(
      What != Fault::wrong_domain,
      "mad: in this layer's forward, an operation got rows of the wrong kind (Domain A; 0 tokens, 1 "
      "positions, 2 sequences, 3 one): the result of forward has one row per token, and what all sequences share "
      "(positions, one) cannot be computed from their tokens; "
      "see Diagnosis<Layer, Width, Fault, A, B, Line> in the lines around.");
  static_assert(What != Fault::bad_option,
                "mad: in this layer, an option has the impossible value A; the limit at this width is B; "
                "see Diagnosis<Layer, Width, Fault, A, B, Line> in the lines around.");
  static_assert(What != Fault::too_many_nodes,
                "mad: this layer's forward and backward need A nodes, more than the B that a graph holds: cut it into "
                "several layers of a Stack, or raise mad::Graph::capacity.");
  static_assert(What != Fault::too_many_parameters,
                "mad: this layer has A parameters, more than the B that a graph holds: cut it into several layers.");
  static_assert(What != Fault::name_too_long, "mad: a parameter's full name has A characters or more, the limit is B.");
  static_assert(What != Fault::name_repeated,
                "mad: two parameters of this layer have the same name; Line says where the second one is made.");
  static_assert(
      What != Fault::no_adjoint,
      "mad: gradients have to pass through an operation that has no adjoint rule (node A of the graph, counted "
      "from the input, 0); give its Operation one.");
  static constexpr bool value = What == Fault::none;
};

}  // namespace mad
