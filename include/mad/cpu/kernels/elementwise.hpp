// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run of elementwise nodes as one loop: every value lives in registers, only what others need is stored.
///
/// A layer has tens of runs, so what is compiled for each of them counts: one function, and the loop over columns in
/// it. Where values lie, and how they go on from row to row, is data.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/packets/pack.hpp>
#include <mad/graph/run_table.hpp>
#include <mad/ops/elementwise.hpp>

#include <algorithm>
#include <utility>

namespace mad::cpu {

namespace elementwise {

/// How the columns of a load follow those of the run: `narrow` is the number of its own columns where they are tiled,
/// `copies` how often each of them stands where they are spread; 1 otherwise.
struct ColumnPattern {
  RunColumns columns = RunColumns::same;
  Index narrow = 1;
  Index copies = 1;
};

/// Columns [c, c + size of X) of a load.
template <ColumnPattern P, class X, class T>
MAD_ALWAYS_INLINE inline X load(const T* row, Index c) {
  constexpr bool single_number = std::is_same_v<X, T>;
  constexpr Index size = single_number ? 1 : Lanes<T>::size;
  const auto column = [](Index wide) { return P.columns == RunColumns::tiled ? wide % P.narrow : wide / P.copies; };
  if constexpr (P.columns == RunColumns::single) {
    if constexpr (single_number)
      return row[0];
    else
      return X::all(row[0]);
  } else if constexpr (P.columns == RunColumns::same) {
    return load_pack<X>(row + c);
  } else if constexpr (single_number) {
    return row[column(c)];
  } else if constexpr (P.columns == RunColumns::tiled && P.narrow % size == 0) {
    return X::load(row + c % P.narrow);
  } else if constexpr (P.columns == RunColumns::spread && P.copies % size == 0) {
    return X::all(row[c / P.copies]);
  } else {
    alignas(Lanes<T>::alignment) T gathered[size];
    for (Index i = 0; i < size; ++i) gathered[i] = row[column(c + i)];
    return X::load(gathered);
  }
}

/// The formula of an operation on `value[a]` (and `value[b]`).
template <const Operation* Op, int Operands, class X>
MAD_ALWAYS_INLINE inline X evaluate([[maybe_unused]] double number, const X* value, int a, [[maybe_unused]] int b) {
  if constexpr (Operands == 0)
    return X(0);
  else if constexpr (Op == &ops::copy_op || Op == &ops::tile_op || Op == &ops::spread_op)
    return value[a];
  else if constexpr (Operands == 1)
    return ops::Formula<Op>::template apply<X>(number, value[a]);
  else
    return ops::Formula<Op>::template apply<X>(number, value[a], value[b]);
}

/// A value's row as a run goes from row to row.
template <class T>
struct Row {
  T* at;
  Index step;  ///< to the next row
  Index turn;  ///< further, behind the last token of a sequence
};

/// Puts `row` to the first rows of `count` values for a run over rows of `domain`.
template <class T>
[[gnu::noinline]] void begin_rows(const Context<T>& context, Domain domain, const Place* places, const Domain* domains,
                                  int count, Row<T>* row) {
  for (int i = 0; i < count; ++i) {
    const View<T> value = locate(context, places[i]);
    if (domains[i] == domain || (domain != Domain::tokens && domains[i] != Domain::one))
      row[i] = {value.data, value.stride, 0};
    else if (domains[i] == Domain::positions)
      row[i] = {value.row(context.past), value.stride, -context.shape.length * value.stride};
    else if (domains[i] == Domain::sequences)
      row[i] = {value.data, 0, value.stride};
    else
      row[i] = {value.data, 0, 0};
  }
}

/// Calls body(rows) for each row of a run over rows of `domain`: `rows[i]` is the row of value i that belongs to it.
template <int Count, class T, class Body>
MAD_ALWAYS_INLINE inline void for_rows(const Context<T>& context, Domain domain, const Place* places,
                                       const Domain* domains, const Body& body) {
  Row<T> row[Count];
  begin_rows(context, domain, places, domains, Count, row);
  const Index rows = context.rows(domain);
  const Index length = domain == Domain::tokens ? context.shape.length : rows;
  for (Index r = 0; r < rows; r += length) {
    for (Index t = 0; t < length; ++t) {
      T* at[Count];
      for (int i = 0; i < Count; ++i) {
        at[i] = row[i].at;
        row[i].at += row[i].step;
      }
      body(at);
    }
    for (int i = 0; i < Count; ++i) row[i].at += row[i].turn;
  }
}

template <class Low, int StepIndex, class T>
struct Run {
  static constexpr RunTable table = make_run_table(Low::graph.nodes, Low::plan, StepIndex);
  static constexpr const Node& first = Low::graph.nodes[table.members[0]];
  static constexpr int width = first.width;
  static constexpr int loads = table.load_count;
  static constexpr int members = table.count;

  static constexpr const Node& member(int m) { return Low::graph.nodes[table.members[m]]; }
  static constexpr bool is_stored(int m) { return Low::plan.location[table.members[m]].space != Space::registers; }
  static constexpr ColumnPattern pattern(int l) {
    const Index narrow = Low::graph.nodes[table.loads[l].node].width;
    switch (table.loads[l].columns) {
      case RunColumns::tiled:
        return {RunColumns::tiled, narrow, 1};
      case RunColumns::spread:
        return {RunColumns::spread, 1, width / narrow};
      default:
        return {table.loads[l].columns, 1, 1};
    }
  }
  /// Where argument k of a member stands: loads come first, then members.
  static constexpr int argument(int m, int k) {
    const int from = table.argument[m][k];
    return from >= 0 ? loads + from : ~from;
  }
  /// Rows that the run goes along: all loads, then the members that are stored.
  static constexpr int row_of(int m) {
    int row = loads;
    for (int i = 0; i < m; ++i) row += is_stored(i);
    return row;
  }
  static constexpr int row_count = row_of(members);
  struct Values {
    Place place[row_count];
    Domain domain[row_count];
  };
  static constexpr Values values = [] {
    Values v{};
    const auto set = [&](int row, int id) {
      v.place[row] = Place(Low::graph, Low::plan, id);
      v.domain[row] = Low::graph.nodes[id].domain;
    };
    for (int l = 0; l < loads; ++l) set(l, table.loads[l].node);
    for (int m = 0; m < members; ++m)
      if (is_stored(m)) set(row_of(m), table.members[m]);
    return v;
  }();

  /// All loads come before all stores: a result may lie on an operand.
  template <class X, int... L, int... M>
  MAD_ALWAYS_INLINE static inline void columns(T* const* row, Index c, std::integer_sequence<int, L...>,
                                               std::integer_sequence<int, M...>) {
    X value[loads + members];
    ((value[L] = load<pattern(L), X>(row[L], c)), ...);
    ((value[loads + M] =
          evaluate<member(M).op, member(M).operands, X>(member(M).number[0], value, argument(M, 0), argument(M, 1))),
     ...);
    ((is_stored(M) ? store_pack(row[row_of(M)] + c, value[loads + M]) : void()), ...);
  }

  static void run(const Context<T>& context) {
    constexpr auto all_loads = std::make_integer_sequence<int, loads>{};
    constexpr auto all_members = std::make_integer_sequence<int, members>{};
    constexpr Index size = Lanes<T>::size;
    for_rows<row_count>(context, first.domain, values.place, values.domain, [&](T* const* at) MAD_ALWAYS_INLINE {
      Index c = 0;
      if constexpr (width >= size)
        for (; c + size <= width; c += size) columns<Pack<T>>(at, c, all_loads, all_members);
      if constexpr (width % size != 0)
        for (; c < width; ++c) columns<T>(at, c, all_loads, all_members);
    });
  }
};

}  // namespace elementwise

}  // namespace mad::cpu
