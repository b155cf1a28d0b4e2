// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A linear map of a few rows, such as one token of each sequence: the weight is read once, from where it lies.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

namespace mad::cpu {

namespace linear_step_detail {

/// y[o] = x . (row o of the weight) + bias[o] for `Count` outputs.
template <int Count, class T>
MAD_ALWAYS_INLINE inline void outputs(Index in, const T* x, const T* weight, const T* bias, T* y) {
  using namespace Eigen::internal;
  T total[Count];
  MAD_UNROLL
  for (int o = 0; o < Count; ++o) total[o] = bias == nullptr ? T(0) : bias[o];
  for_stretches<T>(in, [&]<class Packet>(PacketAccess<Packet> access, Index begin, Index end) MAD_ALWAYS_INLINE {
    Packet sum[Count];
    MAD_UNROLL
    for (int o = 0; o < Count; ++o) sum[o] = access.all(T(0));
    for (Index i = begin; i < end; i += access.size) {
      const Packet element = access.load(x + i);
      MAD_UNROLL
      for (int o = 0; o < Count; ++o) sum[o] = pmadd(element, access.load(weight + o * in + i), sum[o]);
    }
    MAD_UNROLL
    for (int o = 0; o < Count; ++o) total[o] += predux(sum[o]);
  });
  MAD_UNROLL
  for (int o = 0; o < Count; ++o) y[o] = total[o];
}

}  // namespace linear_step_detail

/// y = x W^T + b; x (rows, in), W (out, in), b (out) or null, y (rows, out). `linear_forward` packs the weight, which
/// costs more than the product itself where rows are few. The bits of a row do not depend on the others.
template <class T>
[[gnu::noinline]] void linear_step(Index rows, Index in, Index out, View<const T> x, const T* weight, const T* bias,
                                   View<T> y) {
  constexpr int together = 8;  // sums in registers
  Index o = 0;
  const auto take = [&]<int Count>(std::integral_constant<int, Count>) {
    for (; o + Count <= out; o += Count)
      for (Index r = 0; r < rows; ++r)
        linear_step_detail::outputs<Count>(in, x.row(r), weight + o * in, bias == nullptr ? nullptr : bias + o,
                                           y.row(r) + o);
  };
  take(std::integral_constant<int, together>{});
  take(std::integral_constant<int, 1>{});
}

}  // namespace mad::cpu
