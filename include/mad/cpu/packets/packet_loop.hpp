// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Loops over the elements of one row in packets: the widest ones first, then narrower ones for what is left.
///
/// Which element is worked on by which packet depends on the number of elements alone, never on the address, so that
/// results are the same bits wherever the memory lies. (Eigen's own loops over arrays begin at the first aligned one.)
#pragma once

#include <mad/core/shape.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/lanes.hpp>

namespace mad::cpu {

template <class Packet>
constexpr Index packet_size() {
  return Eigen::internal::unpacket_traits<Packet>::size;
}

/// What the body of a packet loop is handed: loads, stores and constants of the packet that is its turn. Arithmetic is
/// that of Eigen::internal (padd, pmul, ...), which takes single numbers too.
template <class Packet>
struct PacketAccess {
  using T = typename Eigen::internal::unpacket_traits<Packet>::type;
  static constexpr Index size = packet_size<Packet>();
  static MAD_ALWAYS_INLINE inline Packet load(const T* p) { return Eigen::internal::ploadu<Packet>(p); }
  static MAD_ALWAYS_INLINE inline void store(T* p, const Packet& x) { Eigen::internal::pstoreu(p, x); }
  static MAD_ALWAYS_INLINE inline Packet all(T x) { return Eigen::internal::pset1<Packet>(x); }
};

namespace packet_loop_detail {

template <class Packet, class Visit>
MAD_ALWAYS_INLINE inline void stretches(Index begin, Index n, const Visit& visit) {
  using T = typename Eigen::internal::unpacket_traits<Packet>::type;
  using Half = typename Eigen::internal::unpacket_traits<Packet>::half;
  const Index end = begin + (n - begin) / packet_size<Packet>() * packet_size<Packet>();
  if (end > begin) visit(PacketAccess<Packet>{}, begin, end);
  if constexpr (packet_size<Packet>() > 1) {
    if (end == n) return;
    if constexpr (packet_size<Half>() < packet_size<Packet>()) {
      stretches<Half>(end, n, visit);
    } else {
      stretches<T>(end, n, visit);
    }
  }
}

}  // namespace packet_loop_detail

/// Calls visit(access, begin, end) for each stretch of 0 .. n-1 that packets of one size cover.
template <class T, class Visit>
MAD_ALWAYS_INLINE inline void for_stretches(Index n, const Visit& visit) {
  packet_loop_detail::stretches<typename Lanes<T>::Packet>(0, n, visit);
}

/// Calls body(access, i) so that every element of 0 .. n-1 is in exactly one packet, which begins at i.
template <class T, class Body>
MAD_ALWAYS_INLINE inline void for_packets(Index n, const Body& body) {
  for_stretches<T>(n, [&]<class Packet>(PacketAccess<Packet> access, Index begin, Index end) MAD_ALWAYS_INLINE {
    for (Index i = begin; i < end; i += packet_size<Packet>()) body(access, i);
  });
}

/// The sum over 0 .. n-1 of the elements of the packets that term(access, i) returns.
template <class T, class Term>
MAD_ALWAYS_INLINE inline T sum_packets(Index n, const Term& term) {
  T sum = 0;
  for_stretches<T>(n, [&]<class Packet>(PacketAccess<Packet> access, Index begin, Index end) MAD_ALWAYS_INLINE {
    Packet part = term(access, begin);
    for (Index i = begin + packet_size<Packet>(); i < end; i += packet_size<Packet>()) {
      part = Eigen::internal::padd(part, Packet(term(access, i)));
    }
    sum += Eigen::internal::predux(part);
  });
  return sum;
}

/// Adds the n elements at `from` to those at `to`.
template <class T>
[[gnu::noinline]] void add_elements(T* to, const T* from, Index n) {
  for_packets<T>(n, [&](auto at, Index i) MAD_ALWAYS_INLINE {
    at.store(to + i, Eigen::internal::padd(at.load(to + i), at.load(from + i)));
  });
}

/// The largest of the n >= 1 elements at x.
template <class T>
T largest_element(const T* x, Index n) {
  T largest = x[0];
  for_stretches<T>(n, [&]<class Packet>(PacketAccess<Packet> access, Index begin, Index end) MAD_ALWAYS_INLINE {
    Packet part = access.load(x + begin);
    for (Index i = begin + packet_size<Packet>(); i < end; i += packet_size<Packet>()) {
      part = Eigen::internal::pmax(part, access.load(x + i));
    }
    const T here = Eigen::internal::predux_max(part);
    if (here > largest) largest = here;
  });
  return largest;
}

}  // namespace mad::cpu
