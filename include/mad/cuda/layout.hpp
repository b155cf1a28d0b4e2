// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// In which numbers the values of a layer are stored on the device, and where: the plan's places in bytes.
#pragma once

#include <mad/cuda/precision.hpp>
#include <mad/graph/layer.hpp>

#include <type_traits>

namespace mad::cuda {

/// What an executor allocates for a layer: bytes per row of each domain.
struct Arenas {
  int bytes[space_count][domain_count]{};
  int prepared_count = 0;
  bool has_prologue = false;
  bool has_epilogue = false;
  bool prologue_adds = false;  ///< sums in the prologue are added to what is there
};

/// True for an output that keeps full precision.
constexpr bool is_exact(const mad::Graph& g, int id) {
  const Node& n = g.nodes[id];
  const int index = n.op->kind == Kind::result ? n.attribute[0] : 0;
  return ((g.nodes[producer(g, id)].op->exact_outputs >> index) & 1u) != 0;
}

/// The places of a lowered layer's values at a precision. A plan counts columns; on the device the columns of an arena
/// may differ in type: exact values come first, those of the activation's type after them.
template <class Low, class P>
struct Layout {
  using Activation = typename P::Activation;

  /// The node whose memory a view shows.
  static constexpr int viewed(int id) {
    while (Low::graph.nodes[id].op->kind == Kind::view) id = Low::graph.nodes[id].operand[0];
    return id;
  }
  /// True where the value's rows hold the activation's type.
  static constexpr bool is_short(int id) {
    const Location& l = Low::plan.location[id];
    switch (l.space) {
      case Space::input:
      case Space::output:
      case Space::output_gradient:
      case Space::input_gradient:
      case Space::scratch:
        return true;
      case Space::saved:
        return !is_exact(Low::graph, viewed(id));
      default:
        return false;
    }
  }
  /// Columns of exact values in the saved arena of a domain that lie before column `base`.
  static constexpr int exact_columns(Domain domain, int base) {
    int columns = 0;
    for (int i = 0; i < Low::graph.size; ++i) {
      const Location& l = Low::plan.location[i];
      if (Low::plan.schedule.live[i] && l.space == Space::saved && l.domain == domain && l.base < base &&
          is_exact(Low::graph, i))
        columns += Low::graph.nodes[i].width;
    }
    return columns;
  }
  static constexpr int all_columns = 1 << 30;
  /// Bytes per row of all exact values of a domain. Rounded up, so that what lies behind stays aligned.
  static constexpr int exact_bytes(Domain domain) {
    return (exact_columns(domain, all_columns) * static_cast<int>(sizeof(float)) + 15) / 16 * 16;
  }

  /// Bytes per row of its domain that lie before a value in its arena.
  static constexpr int bytes_before(int id) {
    const Location& l = Low::plan.location[id];
    if (l.space != Space::saved) return l.base * static_cast<int>(is_short(id) ? sizeof(Activation) : sizeof(float));
    const int before = exact_columns(l.domain, l.base);
    if (!is_short(id)) return before * static_cast<int>(sizeof(float));
    return exact_bytes(l.domain) + (l.base - before) * static_cast<int>(sizeof(Activation));
  }

  /// The power of two, at most 16, at whose multiples (in bytes) all rows of a value begin, however many there are.
  /// Arenas begin at multiples of 256.
  static constexpr int alignment(int id) {
    const Location& l = Low::plan.location[id];
    const int size = static_cast<int>(is_short(id) ? sizeof(Activation) : sizeof(float));
    if (l.space == Space::constant) return size;
    const bool is_parameter = l.space == Space::parameter || l.space == Space::parameter_gradient;
    const int before = is_parameter ? 0 : bytes_before(id);  // parameters are aligned one by one
    int power = 16;
    while (power > size && (before % power != 0 || l.column * size % power != 0 || l.stride * size % power != 0))
      power /= 2;
    return power;
  }

  static constexpr Arenas make_arenas() {
    Arenas a;
    a.prepared_count = Low::plan.arenas.prepared_count;
    const int* begin = Low::plan.schedule.phase_begin;
    a.has_prologue = begin[static_cast<int>(Phase::prologue)] != begin[static_cast<int>(Phase::prologue) + 1];
    a.has_epilogue = Low::plan.arenas.has_epilogue;
    for (int s = 0; s < space_count; ++s) {
      const auto space = static_cast<Space>(s);
      const bool is_short = space == Space::saved || space == Space::scratch;
      for (int d = 0; d < domain_count; ++d) {
        const int exact = space == Space::saved ? exact_columns(static_cast<Domain>(d), all_columns) : 0;
        a.bytes[s][d] =
            (exact > 0 ? exact_bytes(static_cast<Domain>(d)) : 0) +
            (Low::plan.arenas.columns[s][d] - exact) * static_cast<int>(is_short ? sizeof(Activation) : sizeof(float));
      }
    }
    for (int i = 0; i < Low::graph.size; ++i)
      if (Low::plan.schedule.live[i] && Low::plan.schedule.phase[i] == Phase::prologue && Low::graph.nodes[i].op->adds)
        a.prologue_adds = true;
    return a;
  }
  static constexpr Arenas arenas = make_arenas();
};

/// The type in which a value is stored.
template <class Low, int Id, class P>
using Stored = std::conditional_t<Layout<Low, P>::is_short(Id), typename P::Activation, float>;

}  // namespace mad::cuda
