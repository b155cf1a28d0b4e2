// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Softmax over groups of channels, and its gradient.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

namespace mad::cpu {

/// exp of a packet, or of a single number.
template <class Packet>
MAD_ALWAYS_INLINE inline Packet packet_exp(const Packet& x) {
  using T = typename Eigen::internal::unpacket_traits<Packet>::type;
  if constexpr (packet_size<Packet>() == Lanes<T>::size)
    return Lanes<T>::exp(x);
  else
    return Eigen::internal::pexp(x);
}

/// y = exp(x) / sum of exp(x) over each group of `Group` channels; x and y (rows, width), may be the same memory.
template <Index Group, class T>
void softmax_forward(Index rows, Index width, View<const T> x, View<T> y) {
  using namespace Eigen::internal;
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < width; c += Group) {
      const T* from = x.row(r) + c;
      T* to = y.row(r) + c;
      const T largest = largest_element(from, Group);
      const T sum = sum_packets<T>(Group, [&](auto at, Index i) MAD_ALWAYS_INLINE {
        const auto e = packet_exp(psub(at.load(from + i), at.all(largest)));
        at.store(to + i, e);
        return e;
      });
      const T scale = T(1) / sum;
      for_packets<T>(
          Group, [&](auto at, Index i) MAD_ALWAYS_INLINE { at.store(to + i, pmul(at.load(to + i), at.all(scale))); });
    }
  }
}

/// d_x = y (d_y - sum of d_y y over the group); all (rows, width), d_x may be the memory of d_y.
template <Index Group, class T>
void softmax_backward(Index rows, Index width, View<const T> d_y, View<const T> y, View<T> d_x) {
  using namespace Eigen::internal;
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < width; c += Group) {
      const T *gradient = d_y.row(r) + c, *value = y.row(r) + c;
      T* to = d_x.row(r) + c;
      const T mean = sum_packets<T>(
          Group, [&](auto at, Index i) MAD_ALWAYS_INLINE { return pmul(at.load(gradient + i), at.load(value + i)); });
      for_packets<T>(Group, [&](auto at, Index i) MAD_ALWAYS_INLINE {
        at.store(to + i, pmul(at.load(value + i), psub(at.load(gradient + i), at.all(mean))));
      });
    }
  }
}

}  // namespace mad::cpu
