// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products of small and middle-sized matrices: C = A B, or C += A B, with operands in any of the orders that a linear
/// map and its gradients need.
///
/// A panel of B (some registers wide) is packed so that its rows follow each other; a few rows of A at a time are then
/// multiplied with it, each of their elements read from where it lies and spread over a register. At the sizes of a
/// training step (512 tokens, width 64 to 512) packing A as well, as general libraries do, costs more than it brings.
/// An element of C is the sum over the depth in one fixed order: its bits depend neither on the number of rows nor on
/// the row's place among them.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <algorithm>

namespace mad::cpu {

/// A matrix whose element (i, j) lies at `data[i * row_stride + j * column_stride]`.
template <class T>
struct Strided {
  const T* data;
  Index row_stride;
  Index column_stride;
};

/// What C starts from.
enum class Start { zero, bias, present };

namespace matrix_product_detail {

/// Registers of the widest tile, rows of a tile, and depth of a packed panel: 24 sums in registers where there are 32
/// of them, 12 where there are 16, at most 12 rows; a panel of 256 x 64 floats fills 64 KiB.
template <class T>
inline constexpr int tile_registers = Lanes<T>::registers >= 32 ? 4 : 2;
template <class T>
constexpr int tile_rows(int registers) {
  return std::min(12, 6 * tile_registers<T> / registers);
}
inline constexpr Index panel_depth = 256;

/// One tile of C: Rows rows of A times a packed panel of Registers registers. Of its columns the first `columns` exist.
template <int Rows, int Registers, class T>
[[gnu::noinline]] void tile(Index depth, Strided<T> a, const T* panel, View<T> c, Index columns, Start start,
                            const T* bias) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet sum[Rows * Registers];
  // Only the narrowest panel may have columns that do not exist.
  const Index count = Registers == 1 ? columns : L::size;
  MAD_UNROLL
  for (int i = 0; i < Rows * Registers; ++i) {
    const int r = i / Registers, v = i % Registers;
    sum[i] = L::zero();
    if (start == Start::present) sum[i] = L::load(c.row(r) + v * L::size, count);
    if (start == Start::bias) sum[i] = L::load(bias + v * L::size, count);
  }
  for (Index k = 0; k < depth; ++k) {
    Packet b[Registers];
    MAD_UNROLL
    for (int v = 0; v < Registers; ++v) b[v] = L::load(panel + v * L::size);
    const T* left = a.data + k * a.column_stride;
    MAD_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const Packet element = L::all(left[r * a.row_stride]);
      MAD_UNROLL
      for (int v = 0; v < Registers; ++v) sum[r * Registers + v] = L::mul_add(element, b[v], sum[r * Registers + v]);
    }
    panel += Registers * L::size;
  }
  MAD_UNROLL
  for (int i = 0; i < Rows * Registers; ++i) {
    const int r = i / Registers, v = i % Registers;
    L::store(c.row(r) + v * L::size, sum[i], count);
  }
}

/// All rows of C against one panel.
template <int Registers, class T>
void tiles(Index rows, Index depth, Strided<T> a, const T* panel, View<T> c, Index columns, Start start,
           const T* bias) {
  Index r = 0;
  const auto take = [&]<int Rows>(std::integral_constant<int, Rows>) {
    for (; r + Rows <= rows; r += Rows)
      tile<Rows, Registers, T>(depth, {a.data + r * a.row_stride, a.row_stride, a.column_stride}, panel,
                               {c.row(r), c.stride}, columns, start, bias);
  };
  take(std::integral_constant<int, tile_rows<T>(Registers)>{});
  if constexpr (tile_rows<T>(Registers) > 4) take(std::integral_constant<int, 4>{});
  take(std::integral_constant<int, 1>{});
}

/// Rows of B below each other, each `wide` elements of which the first `columns` exist and the rest are zero.
template <class T>
[[gnu::noinline]] void pack(Index depth, Index columns, Index wide, Strided<T> b, T* panel) {
  if (b.column_stride == 1) {
    for (Index k = 0; k < depth; ++k) {
      T* to = panel + k * wide;
      std::copy_n(b.data + k * b.row_stride, columns, to);
      std::fill(to + columns, to + wide, T(0));
    }
    return;
  }
  if (columns < wide) std::fill_n(panel, depth * wide, T(0));
  constexpr Index side = Lanes<T>::size;
  const Index square_depth = b.row_stride == 1 ? depth / side * side : 0;
  const Index square_columns = columns / side * side;
  for (Index c = 0; c < square_columns; c += side)
    for (Index k = 0; k < square_depth; k += side)
      Lanes<T>::transpose(b.data + c * b.column_stride + k, b.column_stride, panel + k * wide + c, wide);
  for (Index c = 0; c < columns; ++c)
    for (Index k = c < square_columns ? square_depth : 0; k < depth; ++k)
      panel[k * wide + c] = b.data[k * b.row_stride + c * b.column_stride];
}

}  // namespace matrix_product_detail

/// C = A B on top of \p start; A (rows, depth), B (depth, columns), C (rows, columns), \p bias (columns) where \p start
/// says so. C shares no memory with A and B.
template <class T>
[[gnu::noinline]] void matrix_product(Index rows, Index columns, Index depth, Strided<T> a, Strided<T> b, View<T> c,
                                      Start start, const T* bias, Workspace& workspace) {
  using namespace matrix_product_detail;
  constexpr Index size = Lanes<T>::size;
  constexpr int widest = tile_registers<T>;
  Workspace::Frame frame(workspace);
  T* panel = frame.take<T>(std::min(depth, panel_depth) * widest * size);
  for (Index k = 0; k < std::max<Index>(depth, 1); k += panel_depth) {
    const Index deep = std::min(panel_depth, depth - k);
    const Strided<T> left{a.data + k * a.column_stride, a.row_stride, a.column_stride};
    Index column = 0;
    const auto take = [&]<int Registers>(std::integral_constant<int, Registers>) {
      constexpr Index wide = Registers * size;
      while (columns - column >= (Registers == 1 ? 1 : wide)) {
        const Index some = std::min(wide, columns - column);
        pack<T>(deep, some, wide, {b.data + k * b.row_stride + column * b.column_stride, b.row_stride, b.column_stride},
                panel);
        tiles<Registers, T>(rows, deep, left, panel, c.columns_from(column), some, start,
                            bias == nullptr ? nullptr : bias + column);
        column += some;
      }
    };
    take(std::integral_constant<int, widest>{});
    if constexpr (widest > 2) take(std::integral_constant<int, 2>{});
    take(std::integral_constant<int, 1>{});
    start = Start::present;
  }
}

}  // namespace mad::cpu
