// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// In which numbers the values of a layer are stored on the device, and where: the plan's places in bytes.
#pragma once

#include <mad/cuda/device/precision.hpp>
#include <mad/graph/graph.hpp>
#include <mad/graph/layer.hpp>

#include <iterator>

namespace mad::cuda {

/// What an executor allocates for a layer: bytes per row of each domain.
struct Arenas {
  int bytes[space_count][domain_count]{};
  int prepared_count = 0;
  bool has_prologue = false;
  bool has_epilogue = false;
  bool prologue_adds = false;  ///< sums in the prologue are added to what is there
};

/// What a layout says about each value of a layer. One table, made once: a compiler that works these things out
/// wherever they are asked for spends more time on them than on the kernels.
template <int Count>
struct ValueTable {
  bool is_short[Count]{};     ///< the value's rows hold the activation's type
  int bytes_before[Count]{};  ///< bytes per row of its domain that lie before it in its arena
  unsigned char alignment[Count]{};
};

/// The places of a lowered layer's values at a precision. A plan counts columns; on the device the columns of an arena
/// may differ in type: exact values come first, those of the activation's type after them.
template <class Low, class P>
struct Layout {
  using Activation = typename P::Activation;

  /// True where the value's rows hold the activation's type.
  static constexpr bool is_short(int id) { return values.is_short[id]; }
  /// Bytes per row of its domain that lie before a value in its arena.
  static constexpr int bytes_before(int id) { return values.bytes_before[id]; }
  /// The power of two, at most 16, at whose multiples (in bytes) all rows of a value begin, however many there are.
  /// Arenas begin at multiples of 256.
  static constexpr int alignment(int id) { return values.alignment[id]; }

private:
  static constexpr int size_of(bool is_short) {
    return static_cast<int>(is_short ? sizeof(Activation) : sizeof(float));
  }
  static constexpr int count = static_cast<int>(std::size(Low::nodes.at));
  /// The node whose memory a view shows.
  static constexpr int viewed(int id) {
    while (Low::nodes.at[id].op->kind == Kind::view) id = Low::nodes.at[id].operand[0];
    return id;
  }
  static constexpr bool find_short(int id) {
    switch (Low::plan.location[id].space) {
      case Space::input:
      case Space::output:
      case Space::output_gradient:
      case Space::input_gradient:
      case Space::scratch:
        return true;
      case Space::saved:
        return !is_exact(Low::nodes.at, viewed(id));
      default:
        return false;
    }
  }
  /// Columns of exact values in the saved arena of a domain that lie before column `base`.
  static constexpr int exact_columns(Domain domain, int base) {
    int columns = 0;
    for (int i = 0; i < count; ++i) {
      const Location& l = Low::plan.location[i];
      if (Low::plan.schedule.live[i] && l.space == Space::saved && l.domain == domain && l.base < base &&
          is_exact(Low::nodes.at, i))
        columns += Low::nodes.at[i].width;
    }
    return columns;
  }
  static constexpr int all_columns = 1 << 30;
  /// Bytes per row of all exact values of a domain. Rounded up, so that what lies behind stays aligned.
  static constexpr int exact_bytes(Domain domain) {
    return (exact_columns(domain, all_columns) * static_cast<int>(sizeof(float)) + 15) / 16 * 16;
  }
  static constexpr int find_bytes_before(int id, bool is_short) {
    const Location& l = Low::plan.location[id];
    if (l.space != Space::saved) return l.base * size_of(is_short);
    const int before = exact_columns(l.domain, l.base);
    if (!is_short) return before * static_cast<int>(sizeof(float));
    return exact_bytes(l.domain) + (l.base - before) * static_cast<int>(sizeof(Activation));
  }
  static constexpr int find_alignment(int id, bool is_short, int bytes_before) {
    const Location& l = Low::plan.location[id];
    const int size = size_of(is_short);
    if (l.space == Space::constant) return size;
    const bool is_parameter = l.space == Space::parameter || l.space == Space::parameter_gradient;
    const int before = is_parameter ? 0 : bytes_before;  // parameters are aligned one by one
    int power = 16;
    while (power > size && (before % power != 0 || l.column * size % power != 0 || l.stride * size % power != 0))
      power /= 2;
    return power;
  }
  static constexpr ValueTable<count> make_values() {
    ValueTable<count> table;
    for (int id = 0; id < count; ++id) {
      const bool is_short = find_short(id);
      const int before = find_bytes_before(id, is_short);
      table.is_short[id] = is_short;
      table.bytes_before[id] = before;
      table.alignment[id] = static_cast<unsigned char>(find_alignment(id, is_short, before));
    }
    return table;
  }
  static constexpr ValueTable<count> values = make_values();

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
    for (int i = 0; i < count; ++i)
      if (Low::plan.schedule.live[i] && Low::plan.schedule.phase[i] == Phase::prologue && Low::nodes.at[i].op->adds)
        a.prologue_adds = true;
    return a;
  }

public:
  static constexpr Arenas arenas = make_arenas();
};

}  // namespace mad::cuda
