// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The operands of one head of a linear recurrence over a run of tokens, brought into panels for the sweeps.
#pragma once

#include <mad/cpu/kernels/linear_recurrence/operands.hpp>
#include <mad/cpu/kernels/linear_recurrence/sweep.hpp>

namespace mad::cpu::recurrence_detail {

/// Tokens whose operands are brought into panels at a time: what one tile needs of them stays in the first level of
/// cache, what one head needs in the second.
inline constexpr Index run_tokens = 64;

/// Panels for `tokens` tokens one after the other in `buffer`.
template <class T>
constexpr Panels<T> packed(T* buffer, Index tokens) {
  return {buffer, Lanes<T>::size, tokens * Lanes<T>::size};
}

/// The first `width` columns of `from` in panels, padded with zeros; where they are one panel as they lie, nothing is
/// moved. With `ones` a column of ones follows.
template <class T>
Panels<const T> pack(View<const T> from, Index tokens, Index width, bool ones, T* buffer) {
  using L = Lanes<T>;
  if (width == L::size && !ones) return {from.data, from.stride, L::size};
  const Panels<T> to = packed(buffer, tokens);
  for (Index p = 0; p < panels_for<T>(width + (ones ? 1 : 0)); ++p) {
    const Index columns = std::min(L::size, width - p * L::size);
    for (Index t = 0; t < tokens; ++t) {
      const T* x = from.row(t) + p * L::size;
      T* y = to.at(t, p);
      if (columns == L::size) {
        L::store(y, L::load(x));
        continue;
      }
      L::store(y, L::zero());
      for_packets<T>(columns, [&](auto access, Index i) MAD_ALWAYS_INLINE { access.store(y + i, access.load(x + i)); });
      if (ones) y[columns] = T(1);
    }
  }
  return to;
}

/// The first `width` columns of panels go to rows, or are added to them.
template <class T>
void unpack(Panels<const T> from, Index tokens, Index width, bool add, View<T> to) {
  using L = Lanes<T>;
  for (Index p = 0; p < panels_for<T>(width); ++p) {
    const Index columns = std::min(L::size, width - p * L::size);
    for (Index t = 0; t < tokens; ++t) {
      const T* x = from.at(t, p);
      T* y = to.row(t) + p * L::size;
      if (columns == L::size) {
        L::store(y, add ? L::add(L::load(y), L::load(x)) : L::load(x));
        continue;
      }
      for_packets<T>(columns, [&](auto access, Index i) MAD_ALWAYS_INLINE {
        const auto value = access.load(x + i);
        access.store(y + i, add ? Eigen::internal::padd(access.load(y + i), value) : value);
      });
    }
  }
}

/// Panels to write `width` columns to: the rows themselves where these are one panel and that is not `forbidden`, or
/// `buffer`.
template <class T>
Panels<T> room(View<T> rows, Index tokens, Index width, bool forbidden, T* buffer) {
  if (width == Lanes<T>::size && !forbidden) return {rows.data, rows.stride, Lanes<T>::size};
  return packed(buffer, tokens);
}

/// Where the head `h` begins among the columns of the log decay.
constexpr Index decay_column(const RecurrenceSizes& z, Index h) {
  return z.decay == RecurrenceDecay::head ? h : h * z.key_width;
}

/// The decays exp(a) of head h for tokens from `row` on: a number per token, or panels over the key channels. One row
/// of decays becomes panels whose rows all lie at the same place.
template <class T>
Panels<const T> decays(const RecurrenceSizes& z, View<const T> log_decay, Index h, Index row, Index tokens, T* buffer) {
  using L = Lanes<T>;
  if (z.decay == RecurrenceDecay::none) return {};
  const Index rows = z.decay_per_token ? tokens : 1;
  const View<const T> from = log_decay.rows_from(z.decay_per_token ? row : 0).columns_from(decay_column(z, h));
  Panels<T> to;
  Index size;
  if (z.decay == RecurrenceDecay::head) {
    size = padded<T>(rows);
    for (Index t = 0; t < size; ++t) buffer[t] = t < rows ? from.row(t)[0] : T(0);
    to = {buffer, 1, 0};
  } else {
    size = rows * padded<T>(z.key_width);
    const Panels<const T> there = pack<T>(from, rows, z.key_width, false, buffer);
    to = packed(buffer, rows);
    if (there.data != buffer)
      for (Index t = 0; t < rows; ++t) L::store(to.at(t, 0), L::load(there.at(t, 0)));
  }
  for (Index i = 0; i < size; i += L::size) L::store(buffer + i, L::exp(L::load(buffer + i)));
  if (!z.decay_per_token) to.row_stride = 0;
  return to;
}

/// The inner product of token t's columns in two sets of panels.
template <class T>
T dot(Panels<const T> x, Panels<const T> y, Index t, Index panels) {
  using L = Lanes<T>;
  auto sum = L::mul(L::load(x.at(t, 0)), L::load(y.at(t, 0)));
  for (Index p = 1; p < panels; ++p) sum = L::mul_add(L::load(x.at(t, p)), L::load(y.at(t, p)), sum);
  return L::sum(sum);
}

/// Numbers of the tiles of a state.
template <class T>
constexpr Index tiles_size(Index rows, Index lanes) {
  return padded<T>(rows) * padded<T>(lanes);
}

/// Element (row, lane) of a state in tiles.
template <class T>
constexpr Index tile_index(Index rows, Index row, Index lane) {
  constexpr Index width = Lanes<T>::size;
  return (lane / width * padded<T>(rows) + row) * width + lane % width;
}

/// Tiles from a state (dk, columns), or zero if it is null; `keys_in_lanes` puts the key channels into the lanes.
template <class T>
void load_state(const T* from, Index key_width, Index columns, bool keys_in_lanes, T* tiles) {
  std::fill_n(tiles, tiles_size<T>(key_width, columns), T(0));
  if (from == nullptr) return;
  for (Index i = 0; i < key_width; ++i)
    for (Index j = 0; j < columns; ++j)
      tiles[keys_in_lanes ? tile_index<T>(columns, j, i) : tile_index<T>(key_width, i, j)] = from[i * columns + j];
}

/// A state (dk, columns) from tiles with the key channels in the rows.
template <class T>
void store_state(const T* tiles, Index key_width, Index columns, T scale, T* to) {
  for (Index i = 0; i < key_width; ++i)
    for (Index j = 0; j < columns; ++j) to[i * columns + j] = scale * tiles[tile_index<T>(key_width, i, j)];
}

}  // namespace mad::cpu::recurrence_detail
