// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A short convolution with silu of what comes out of it.
#pragma once

#include <mad/cpu/packet_loop.hpp>
#include <mad/cpu/short_conv.hpp>

namespace mad::cpu {

/// x sigmoid(x) in place.
template <class T>
void silu_rows(Index rows, Index columns, View<T> x) {
  using namespace Eigen::internal;
  for (Index r = 0; r < rows; ++r) {
    T* row = x.row(r);
    for_packets<T>(columns, [&](auto at, Index c) MAD_ALWAYS_INLINE {
      const auto v = at.load(row + c);
      at.store(row + c, pdiv(v, padd(at.all(T(1)), pexp(pnegate(v)))));
    });
  }
}

/// As `short_conv_forward`, then silu.
template <int Kernel = 0, class T>
void short_conv_silu_forward(const Shape& shape, const ShortConvSizes& sizes, View<const T> x, const T* weight,
                             const T* bias, View<T> y, Workspace& workspace) {
  short_conv_forward<Kernel, T>(shape, sizes, x, weight, bias, y, workspace);
  silu_rows<T>(shape.tokens(), sizes.channels, y);
}

/// Gradients of `short_conv_silu_forward`, as `short_conv_backward` has them. The convolution is computed again.
template <int Kernel = 0, class T>
void short_conv_silu_backward(const Shape& shape, const ShortConvSizes& sizes, View<const T> x, const T* weight,
                              const T* bias, View<const T> d_y, View<T> d_x, T* d_weight, T* d_bias,
                              Workspace& workspace) {
  using namespace Eigen::internal;
  Workspace::Frame frame(workspace);
  const View<T> d_conv{frame.template take<T>(shape.tokens() * sizes.channels), sizes.channels};
  short_conv_forward<Kernel, T>(shape, sizes, x, weight, bias, d_conv, workspace);
  for (Index r = 0; r < shape.tokens(); ++r) {
    T* row = d_conv.row(r);
    const T* gradient = d_y.row(r);
    for_packets<T>(sizes.channels, [&](auto at, Index c) MAD_ALWAYS_INLINE {
      const auto v = at.load(row + c);
      const auto one = at.all(T(1));
      const auto s = pdiv(one, padd(one, pexp(pnegate(v))));
      const auto slope = pmul(s, padd(one, pmul(v, psub(one, s))));
      at.store(row + c, pmul(at.load(gradient + c), slope));
    });
  }
  short_conv_backward<Kernel, T>(shape, sizes, x, weight, View<const T>(d_conv), d_x, d_weight, d_bias, workspace);
}

}  // namespace mad::cpu
