// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A run of elementwise nodes as one loop: every value lives in registers, only what others need is stored.
#pragma once

#include <mad/cpu/context.hpp>
#include <mad/cpu/pack.hpp>
#include <mad/graph/run_table.hpp>
#include <mad/ops/elementwise.hpp>

namespace mad::cpu {

namespace elementwise {

template <class Low, int StepIndex, class T>
struct Run {
  static constexpr RunTable table = make_run_table(Low::graph, Low::plan, StepIndex);
  static constexpr const Node& first = Low::graph.nodes[table.members[0]];
  static constexpr int width = first.width;

  template <class X>
  MAD_ALWAYS_INLINE static inline X broadcast(T x) {
    if constexpr (std::is_same_v<X, T>)
      return x;
    else
      return X::all(x);
  }

  /// Columns [c, c + size of X) of a load.
  template <int L, class X>
  MAD_ALWAYS_INLINE static inline X load(const T* row, Index c) {
    constexpr RunLoad from = table.loads[L];
    constexpr Index narrow = Low::graph.nodes[from.node].width;
    constexpr Index size = std::is_same_v<X, T> ? 1 : Lanes<T>::size;
    if constexpr (from.columns == RunColumns::single) {
      return broadcast<X>(row[0]);
    } else if constexpr (from.columns == RunColumns::same) {
      if constexpr (size == 1)
        return row[c];
      else
        return X::load(row + c);
    } else {
      constexpr Index copies = width / narrow;
      const auto column = [](Index wide) { return from.columns == RunColumns::tiled ? wide % narrow : wide / copies; };
      if constexpr (size == 1) {
        return row[column(c)];
      } else if constexpr (from.columns == RunColumns::tiled && narrow % size == 0) {
        return X::load(row + c % narrow);
      } else if constexpr (from.columns == RunColumns::spread && copies % size == 0) {
        return X::all(row[c / copies]);
      } else {
        alignas(Lanes<T>::alignment) T gathered[size];
        for (Index i = 0; i < size; ++i) gathered[i] = row[column(c + i)];
        return X::load(gathered);
      }
    }
  }

  template <int M, int K, class X>
  MAD_ALWAYS_INLINE static inline X argument(const X* value, const X* loaded) {
    constexpr int from = table.argument[M][K];
    if constexpr (from >= 0)
      return value[from];
    else
      return loaded[~from];
  }

  template <int M, class X>
  MAD_ALWAYS_INLINE static inline X evaluate(const X* value, const X* loaded) {
    constexpr const Node& n = Low::graph.nodes[table.members[M]];
    if constexpr (n.op == &ops::zeros_op) {
      return X(0);
    } else if constexpr (n.op == &ops::copy_op || n.op == &ops::tile_op || n.op == &ops::spread_op) {
      return argument<M, 0>(value, loaded);
    } else if constexpr (n.operands == 1) {
      return ops::Formula<n.op>::template apply<X>(n.number[0], argument<M, 0>(value, loaded));
    } else {
      return ops::Formula<n.op>::template apply<X>(n.number[0], argument<M, 0>(value, loaded),
                                                   argument<M, 1>(value, loaded));
    }
  }

  /// All loads come before all stores: a result may lie on an operand.
  template <class X>
  MAD_ALWAYS_INLINE static inline void columns(const T* const* from, T* const* to, Index c) {
    X loaded[table.load_count + 1];
    X value[table.count];
    unroll<table.load_count>([&](auto l) MAD_ALWAYS_INLINE { loaded[l()] = load<l(), X>(from[l()], c); });
    unroll<table.count>([&](auto m) MAD_ALWAYS_INLINE { value[m()] = evaluate<m(), X>(value, loaded); });
    unroll<table.count>([&](auto m) MAD_ALWAYS_INLINE {
      if constexpr (Low::plan.location[table.members[m()]].space != Space::registers) {
        if constexpr (std::is_same_v<X, T>)
          to[m()][c] = value[m()];
        else
          value[m()].store(to[m()] + c);
      }
    });
  }

  static void run(const Context<T>& context) {
    const T* sources[table.load_count + 1];
    T* targets[table.count];
    unroll<table.load_count>(
        [&](auto l) MAD_ALWAYS_INLINE { sources[l()] = locate<Low, table.loads[l()].node>(context).data; });
    unroll<table.count>([&](auto m) MAD_ALWAYS_INLINE {
      if constexpr (Low::plan.location[table.members[m()]].space != Space::registers)
        targets[m()] = locate<Low, table.members[m()]>(context).data;
    });
    const Index length = context.shape.length;
    const Index rows = context.rows(first.domain);
    const T* from[table.load_count + 1];
    T* to[table.count];
    for (Index r = 0; r < rows; ++r) {
      const Index position = first.domain == Domain::tokens ? context.past + r % length : r;
      const Index sequence = first.domain == Domain::tokens ? r / length : r;
      unroll<table.load_count>([&](auto l) MAD_ALWAYS_INLINE {
        constexpr Domain domain = Low::graph.nodes[table.loads[l()].node].domain;
        constexpr bool whole = domain == first.domain;
        constexpr Index stride = Low::plan.location[table.loads[l()].node].stride;
        const Index row = whole                         ? r
                          : domain == Domain::positions ? position
                          : domain == Domain::sequences ? sequence
                                                        : 0;
        from[l()] = sources[l()] + row * stride;
      });
      unroll<table.count>([&](auto m) MAD_ALWAYS_INLINE {
        constexpr Location place = Low::plan.location[table.members[m()]];
        if constexpr (place.space != Space::registers) to[m()] = targets[m()] + r * place.stride;
      });
      constexpr Index size = Lanes<T>::size;
      Index c = 0;
      if constexpr (width >= size)
        for (; c + size <= width; c += size) columns<Pack<T>>(from, to, c);
      if constexpr (width % size != 0)
        for (; c < width; ++c) columns<T>(from, to, c);
    }
  }
};

}  // namespace elementwise

}  // namespace mad::cpu
