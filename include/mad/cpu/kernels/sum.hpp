// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sums over rows and columns: the adjoint of repeating a value.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>
#include <mad/graph/differentiate.hpp>

#include <algorithm>

namespace mad::cpu {

/// The row r' of `to` to which row r of `from` belongs: its position, its sequence, or the only one.
constexpr Index target_row(Domain from, Domain to, Index row, Index length) {
  if (to == from) return row;
  if (to == Domain::positions) return row % length;
  if (to == Domain::sequences && from == Domain::tokens) return row / length;
  return 0;
}

/// y[r', c'] = sum of x[r, c] over the rows r that belong to r' and the columns c that fold onto c', of `wide` columns
/// `narrow`: all of them, or one. With `add`, added to what is there.
template <class T>
[[gnu::noinline]] void sum(const Shape& shape, Domain from, Domain to, Index wide, Index narrow, bool add,
                           View<const T> x, View<T> y) {
  if (!add)
    for (Index r = 0; r < rows_of(to, shape); ++r) std::fill_n(y.row(r), narrow, T(0));
  for (Index r = 0; r < rows_of(from, shape); ++r) {
    const T* source = x.row(r);
    T* target = y.row(target_row(from, to, r, shape.length));
    if (narrow == 1)
      *target += sum_packets<T>(wide, [&](auto at, Index c) MAD_ALWAYS_INLINE { return at.load(source + c); });
    else
      add_elements(target, source, wide);
  }
}

namespace sum_detail {

/// The sum of `Length` numbers, or packets of numbers, behind each other: halves first, so that rounding errors grow
/// with the logarithm of the length.
template <class Packet, Index Length, class T>
MAD_ALWAYS_INLINE inline Packet halves(const T* x) {
  if constexpr (Length == 1)
    return PacketAccess<Packet>::load(x);
  else
    return Eigen::internal::padd(halves<Packet, Length / 2>(x),
                                 halves<Packet, Length - Length / 2>(x + Length / 2 * packet_size<Packet>()));
}

/// The widest packet that `Count` numbers fill, the narrowest if none does.
template <Index Count, class Packet>
constexpr auto widest_packet() {
  using Half = typename Eigen::internal::unpacket_traits<Packet>::half;
  if constexpr (Count % packet_size<Packet>() == 0 || packet_size<Half>() == packet_size<Packet>())
    return PacketAccess<Packet>{};
  else
    return widest_packet<Count, Half>();
}

template <Index Count, class T>
MAD_ALWAYS_INLINE inline T sum_of(const T* x) {
  return []<class Packet>(PacketAccess<Packet>, const T* from) MAD_ALWAYS_INLINE {
    constexpr Index packets = Count / packet_size<Packet>(), rest = Count - packets * packet_size<Packet>();
    if constexpr (packets == 0) {
      return halves<T, Count>(from);
    } else {
      const T sum = Eigen::internal::predux(halves<Packet, packets>(from));
      if constexpr (rest == 0)
        return sum;
      else
        return sum + halves<T, rest>(from + packets * packet_size<Packet>());
    }
  }(widest_packet<Count, typename Lanes<T>::Packet>(), x);
}

}  // namespace sum_detail

/// The same where columns fold onto several: c onto c % Narrow (tile), or onto c / (Wide / Narrow) (spread).
template <Index Wide, Index Narrow, Fold How, class T>
void sum_folded(const Shape& shape, Domain from, Domain to, bool add, View<const T> x, View<T> y) {
  if (!add)
    for (Index r = 0; r < rows_of(to, shape); ++r) std::fill_n(y.row(r), Narrow, T(0));
  for (Index r = 0; r < rows_of(from, shape); ++r) {
    const T* source = x.row(r);
    T* target = y.row(target_row(from, to, r, shape.length));
    if constexpr (How == Fold::tile) {
      for (Index c = 0; c < Wide; c += Narrow)
        for_packets<T>(Narrow, [&](auto at, Index i) MAD_ALWAYS_INLINE {
          at.store(target + i, Eigen::internal::padd(at.load(target + i), at.load(source + c + i)));
        });
    } else {
      constexpr Index copies = Wide / Narrow;
      for (Index c = 0; c < Narrow; ++c) target[c] += sum_detail::sum_of<copies>(source + c * copies);
    }
  }
}

}  // namespace mad::cpu
