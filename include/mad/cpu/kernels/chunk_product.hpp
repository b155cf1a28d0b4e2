// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Products of the small matrices that chunked recurrences are made of. All sides are multiples of `chunk_side`, padded
/// with zeros where the problem's own are not, and every row of B and C is whole registers: nothing is packed or
/// masked.
#pragma once

#include <mad/cpu/kernels/matrix_product.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <algorithm>

// g++ says that it drops the attributes of register types in Eigen's blocks of them; the blocks are aligned all the
// same.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

namespace mad::cpu {

/// Tokens of a chunk, and the granularity of its matrices: a multiple of every register's lanes.
inline constexpr Index chunk_side = 16;

/// `width` rounded up to whole sides.
constexpr Index chunk_padded(Index width) { return (width + chunk_side - 1) / chunk_side * chunk_side; }

namespace chunk_product_detail {

/// Rows of a tile. Eight sums hide the latency of a multiplication and addition; more than eight rows would need more
/// addresses than there are registers for them.
template <class T>
constexpr int tile_rows(int registers) {
  return std::min(8, (Lanes<T>::registers >= 32 ? 16 : 8) / registers);
}

template <int Registers, bool Add, class T>
[[gnu::noinline]] void columns_of_product(Index rows, Index depth, Strided<T> a, const T* b, Index b_stride, T* c,
                                          Index c_stride) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  constexpr int tile = tile_rows<T>(Registers);
  for (Index r = 0; r < rows; r += tile) {
    Packet sum[tile * Registers];
    MAD_UNROLL
    for (int i = 0; i < tile * Registers; ++i)
      sum[i] = Add ? L::load(c + (i / Registers) * c_stride + (i % Registers) * L::size) : L::zero();
    const T* left = a.data + r * a.row_stride;
    const T* right = b;
    for (Index k = 0; k < depth; ++k) {
      Packet row[Registers];
      MAD_UNROLL
      for (int v = 0; v < Registers; ++v) row[v] = L::load(right + v * L::size);
      MAD_UNROLL
      for (int i = 0; i < tile; ++i) {
        const Packet element = L::all(left[i * a.row_stride]);
        MAD_UNROLL
        for (int v = 0; v < Registers; ++v)
          sum[i * Registers + v] = L::mul_add(element, row[v], sum[i * Registers + v]);
      }
      left += a.column_stride;
      right += b_stride;
    }
    MAD_UNROLL
    for (int i = 0; i < tile * Registers; ++i)
      L::store(c + (i / Registers) * c_stride + (i % Registers) * L::size, sum[i]);
    c += tile * c_stride;
  }
}

}  // namespace chunk_product_detail

/// C = A B, or C += A B: A (rows, depth) in any order, B (depth, columns) and C (rows, columns) of rows `b_stride` and
/// `c_stride` apart.
template <bool Add, class T>
void chunk_product(Index rows, Index columns, Index depth, Strided<T> a, const T* b, Index b_stride, T* c,
                   Index c_stride) {
  using namespace chunk_product_detail;
  constexpr Index size = Lanes<T>::size;
  constexpr int widest = Lanes<T>::registers >= 32 ? 4 : 2;
  Index column = 0;
  const auto take = [&]<int Registers>(std::integral_constant<int, Registers>) {
    for (; column + Registers * size <= columns; column += Registers * size)
      columns_of_product<Registers, Add, T>(rows, depth, a, b + column, b_stride, c + column, c_stride);
  };
  take(std::integral_constant<int, widest>{});
  if constexpr (widest > 2) take(std::integral_constant<int, 2>{});
  take(std::integral_constant<int, 1>{});
}

/// `to` (columns, rows) = transpose of `from` (rows, columns), both dense.
template <class T>
[[gnu::noinline]] void chunk_transpose(Index rows, Index columns, const T* from, T* to) {
  using L = Lanes<T>;
  constexpr int side = static_cast<int>(L::size);
  using Square = Eigen::internal::PacketBlock<typename L::Packet, side>;
  for (Index r = 0; r < rows; r += side)
    for (Index c = 0; c < columns; c += side) {
      Square square;
      MAD_UNROLL
      for (int i = 0; i < side; ++i) square.packet[i] = L::load(from + (r + i) * columns + c);
      Eigen::internal::ptranspose(square);
      MAD_UNROLL
      for (int i = 0; i < side; ++i) L::store(to + (c + i) * rows + r, square.packet[i]);
    }
}

/// Rows `0 .. count-1` of `from`, `width` wide, times `factor`; the rest of `to` (chunk_side, padded) becomes zero.
template <class T>
void chunk_load(View<const T> from, Index count, Index width, T factor, T* to) {
  using L = Lanes<T>;
  const Index padded = chunk_padded(width);
  const Index whole = width / L::size * L::size;
  for (Index t = 0; t < count; ++t, to += padded) {
    const T* row = from.row(t);
    Index i = 0;
    for (; i < whole; i += L::size) L::store(to + i, L::mul(L::load(row + i), L::all(factor)));
    for (; i < width; ++i) to[i] = row[i] * factor;
    for (; i < padded; ++i) to[i] = T(0);
  }
  std::fill_n(to, (chunk_side - count) * padded, T(0));
}

/// Row t of `to` is row t of `from` times `factor[t]`; both (chunk_side, width), and may be the same.
template <class T>
void chunk_scale_rows(Index width, const T* factor, const T* from, T* to) {
  using L = Lanes<T>;
  for (Index t = 0; t < chunk_side; ++t)
    for (Index i = 0; i < width; i += L::size)
      L::store(to + t * width + i, L::mul(L::all(factor[t]), L::load(from + t * width + i)));
}

/// Writes rows `0 .. count-1` of `from` (chunk_side, padded), `width` wide, times `factor`; adds them if `add`.
template <class T>
void chunk_store(const T* from, Index count, Index width, T factor, bool add, View<T> to) {
  using L = Lanes<T>;
  const Index padded = chunk_padded(width);
  const Index whole = width / L::size * L::size;
  for (Index t = 0; t < count; ++t, from += padded) {
    T* row = to.row(t);
    Index i = 0;
    for (; i < whole; i += L::size) {
      const auto x = L::mul(L::load(from + i), L::all(factor));
      L::store(row + i, add ? L::add(L::load(row + i), x) : x);
    }
    for (; i < width; ++i) row[i] = add ? row[i] + from[i] * factor : from[i] * factor;
  }
}

}  // namespace mad::cpu

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
