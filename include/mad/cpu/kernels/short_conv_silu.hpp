// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A short convolution with silu of what comes out of it.
#pragma once

#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/kernels/silu.hpp>

namespace mad::cpu {

/// x sigmoid(x) in place.
template <class T>
void silu_rows(Index rows, Index columns, View<T> x) {
  for (Index r = 0; r < rows; ++r)
    for_packs<T>(columns, [&]<class X>(X, Index c) MAD_ALWAYS_INLINE {
      T* at = x.row(r) + c;
      store_pack(at, Silu<X>(load_pack<X>(at)).value());
    });
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
  Workspace::Frame frame(workspace);
  const View<T> d_conv{frame.template take<T>(shape.tokens() * sizes.channels), sizes.channels};
  short_conv_forward<Kernel, T>(shape, sizes, x, weight, bias, d_conv, workspace);
  for (Index r = 0; r < shape.tokens(); ++r)
    for_packs<T>(sizes.channels, [&]<class X>(X, Index c) MAD_ALWAYS_INLINE {
      T* at = d_conv.row(r) + c;
      store_pack(at, load_pack<X>(d_y.row(r) + c) * Silu<X>(load_pack<X>(at)).slope());
    });
  short_conv_backward<Kernel, T>(shape, sizes, x, weight, View<const T>(d_conv), d_x, d_weight, d_bias, workspace);
}

}  // namespace mad::cpu
