// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel whose channels are a gate and two factors: the factors never lie in
/// memory. Whole sequences, their gradients, and one more token.
#pragma once

#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/kernels/short_conv_step.hpp>

#include <numeric>

namespace mad::cpu {

namespace detail {

/// The channels are three groups of as many.
inline void check_gated_short_conv(const ShortConvSizes& sizes, int kernel) {
  check_short_conv(sizes, kernel);
  if (sizes.channels % 3 != 0)
    throw UsageError(message({"gated short convolution: ", sizes.channels, " channels\nexpected a multiple of 3"}));
}

/// Calls `body(i, count)` for registers of products, of which the last of a stretch may be partial. Within one, the
/// columns that both factors read are neighbours.
template <class T, class Body>
void for_products(const ShortConvSizes& sizes, const Body& body) {
  const Index inner = sizes.channels / 3;
  const Index stretch = std::gcd(inner, sizes.input_width);
  for (Index first = 0; first < inner; first += stretch)
    for_channel_blocks<1, T>(stretch, [&](Index c, auto, Index count) { body(first + c, count); });
}

/// One register of products and where its factors come from.
template <class T>
struct ProductColumns {
  Index count;         ///< of columns
  View<const T> x[2];  ///< the input of each factor
  const T* taps[2];    ///< (K, taps_stride)
  Index taps_stride;
  const T* bias[2];
};

template <class T>
ProductColumns<T> product_columns(const ShortConvSizes& sizes, Index i, Index count, View<const T> x, const T* taps,
                                  const T* bias) {
  ProductColumns<T> p{.count = count, .x = {x, x}, .taps = {}, .taps_stride = sizes.channels, .bias = {}};
  for (int f = 0; f < 2; ++f) {
    const Index channel = (f + 1) * (sizes.channels / 3) + i;
    p.x[f] = x.columns_from(channel % sizes.input_width);
    p.taps[f] = taps + channel;
    p.bias[f] = bias + channel;
  }
  return p;
}

/// Taps and offsets of both factors, and the last K inputs of each: zero before a sequence's beginning.
template <int Kernel, class T>
struct FactorWindows {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet tap[2 * Kernel], offset[2], window[2 * Kernel];

  MAD_ALWAYS_INLINE explicit FactorWindows(const ProductColumns<T>& p) {
    MAD_UNROLL
    for (int f = 0; f < 2; ++f) {
      offset[f] = L::load(p.bias[f], p.count);
      MAD_UNROLL
      for (int j = 0; j < Kernel; ++j) tap[f * Kernel + j] = L::load(p.taps[f] + j * p.taps_stride, p.count);
    }
  }
  MAD_ALWAYS_INLINE void begin() {
    MAD_UNROLL
    for (int i = 0; i < 2 * Kernel; ++i) window[i] = L::zero();
  }
  /// The factor at a row, when all rows before it of its sequence have been given.
  MAD_ALWAYS_INLINE Packet next(const ProductColumns<T>& p, int f, Index row) {
    MAD_UNROLL
    for (int j = 0; j < Kernel - 1; ++j) window[f * Kernel + j] = window[f * Kernel + j + 1];
    window[f * Kernel + Kernel - 1] = L::load(p.x[f].row(row), p.count);
    Packet sum = offset[f];
    MAD_UNROLL
    for (int j = 0; j < Kernel; ++j) sum = L::mul_add(tap[f * Kernel + j], window[f * Kernel + j], sum);
    return sum;
  }
};

template <int Kernel, class T>
void gated_short_conv_columns(const Shape& shape, const ProductColumns<T>& p, View<T> y) {
  using L = Lanes<T>;
  FactorWindows<Kernel, T> factors(p);
  for (Index b = 0; b < shape.batch; ++b) {
    factors.begin();
    for (Index row = b * shape.length; row < (b + 1) * shape.length; ++row) {
      const auto first = factors.next(p, 0, row);
      L::store(y.row(row), L::mul(first, factors.next(p, 1, row)), p.count);
    }
  }
}

/// Gradients of the columns above. Each factor's gradient goes to its taps and to the K rows of `d_x` that it takes
/// part in; `sum` holds these until nothing more is added: entry j is row t-(K-1)+j. `d_taps` holds one more row: the
/// bias.
template <int Kernel, class T>
void gated_short_conv_columns_backward(const Shape& shape, const ProductColumns<T>& p, View<const T> d_y,
                                       const View<T> (&d_x)[2], const bool (&add)[2], T* const (&d_taps)[2]) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  FactorWindows<Kernel, T> factors(p);
  Packet d_tap[2 * Kernel], d_bias[2], sum[2 * Kernel];
  MAD_UNROLL
  for (int i = 0; i < 2 * Kernel; ++i) d_tap[i] = L::zero();
  d_bias[0] = d_bias[1] = L::zero();
  const auto finish = [&](int f, Index row, const Packet& value) MAD_ALWAYS_INLINE {
    T* out = d_x[f].row(row);
    L::store(out, add[f] ? L::add(value, L::load(out, p.count)) : value, p.count);
  };
  for (Index b = 0; b < shape.batch; ++b) {
    factors.begin();
    MAD_UNROLL
    for (int i = 0; i < 2 * Kernel; ++i) sum[i] = L::zero();
    for (Index t = 0; t < shape.length; ++t) {
      const Index row = b * shape.length + t;
      const Packet gradient = L::load(d_y.row(row), p.count);
      const Packet first = factors.next(p, 0, row), second = factors.next(p, 1, row);
      const Packet d_factor[2] = {L::mul(gradient, second), L::mul(gradient, first)};
      MAD_UNROLL
      for (int f = 0; f < 2; ++f) {
        d_bias[f] = L::add(d_bias[f], d_factor[f]);
        MAD_UNROLL
        for (int j = 0; j < Kernel; ++j) {
          const int i = f * Kernel + j;
          d_tap[i] = L::mul_add(factors.window[i], d_factor[f], d_tap[i]);
          sum[i] = L::mul_add(factors.tap[i], d_factor[f], sum[i]);
        }
        if (t >= Kernel - 1) finish(f, row - (Kernel - 1), sum[f * Kernel]);
        MAD_UNROLL
        for (int j = 0; j < Kernel - 1; ++j) sum[f * Kernel + j] = sum[f * Kernel + j + 1];
        sum[f * Kernel + Kernel - 1] = L::zero();
      }
    }
    // Nothing comes behind the last rows.
    for (int f = 0; f < 2; ++f) {
      MAD_UNROLL
      for (int j = 0; j < Kernel - 1; ++j) {
        const Index t = shape.length - (Kernel - 1) + j;
        if (t >= 0) finish(f, b * shape.length + t, sum[f * Kernel + j]);
      }
    }
  }
  for (int f = 0; f < 2; ++f) {
    MAD_UNROLL
    for (int j = 0; j < Kernel; ++j) L::store(d_taps[f] + j * p.taps_stride, d_tap[f * Kernel + j], p.count);
    L::store(d_taps[f] + Kernel * p.taps_stride, d_bias[f], p.count);
  }
}

}  // namespace detail

/// `u[t,c] = bias[c] + sum_j weight[c,0,j] x[t-(K-1)+j, c % input_width]`, and of the three groups of u the first, and
/// the product of the others. x (tokens, input_width); weight (channels, 1, K); bias (channels); gate and product
/// (tokens, channels / 3), overwritten. `Kernel` is K.
template <int Kernel, class T>
void gated_short_conv_forward(const Shape& shape, const ShortConvSizes& sizes, View<const T> x, const T* weight,
                              const T* bias, View<T> gate, View<T> product, Workspace& workspace) {
  detail::check_gated_short_conv(sizes, Kernel);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  detail::short_conv_channels<Kernel>(shape, sizes, sizes.channels / 3, x, taps, bias, gate);
  detail::for_products<T>(sizes, [&](Index i, Index count) {
    detail::gated_short_conv_columns<Kernel>(shape, detail::product_columns(sizes, i, count, x, taps, bias),
                                             product.columns_from(i));
  });
}

/// Gradients of `gated_short_conv_forward`, which computes the factors again: `d_x` (tokens, input_width) is
/// overwritten, with the sum over the tiled copies; `d_weight` (channels, 1, K) and `d_bias` (channels) are added to.
/// `d_gate` may be given as a `detail::ProductOfRows<T>`.
template <int Kernel, class T, class Rows = View<const T>>
void gated_short_conv_backward(const Shape& shape, const ShortConvSizes& sizes, View<const T> x, const T* weight,
                               const T* bias, const Rows& d_gate, View<const T> d_product, View<T> d_x, T* d_weight,
                               T* d_bias, Workspace& workspace) {
  detail::check_gated_short_conv(sizes, Kernel);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  T* d_taps = frame.template take<T>((sizes.kernel + 1) * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  const Index inner = sizes.channels / 3;
  // A channel below input_width is the first to write its column: the gates come before the factors, and a factor whose
  // column another factor has written stands behind that one.
  detail::short_conv_channels_backward<Kernel>(shape, sizes, inner, x, taps, d_gate, d_x, d_taps);
  detail::for_products<T>(sizes, [&](Index i, Index count) {
    const auto columns = detail::product_columns(sizes, i, count, x, taps, bias);
    const Index first = inner + i, second = 2 * inner + i, width = sizes.input_width;
    detail::gated_short_conv_columns_backward<Kernel>(
        shape, columns, d_product.columns_from(i), {d_x.columns_from(first % width), d_x.columns_from(second % width)},
        {first >= width, second >= width}, {d_taps + first, d_taps + second});
  });
  detail::add_tap_gradients(sizes, d_taps, d_weight, d_bias);
}

/// `gated_short_conv_forward` for the token at \p position, below \p longest, of each of \p batch sequences; x (batch,
/// input_width), gate and product (batch, channels / 3). \p state is that of `short_conv_step`.
template <class T>
void gated_short_conv_step(Index batch, Index longest, Index position, const ShortConvSizes& sizes, View<const T> x,
                           const T* weight, const T* bias, View<T> gate, View<T> product, T* state,
                           Workspace& workspace) {
  detail::check_gated_short_conv(sizes, 0);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  const Index kept = std::min(sizes.kernel - 1, longest);
  const Index width = sizes.input_width;
  const Index inner = sizes.channels / 3;
  const Index stretch = std::gcd(inner, width);
  for (Index b = 0; b < batch; ++b) {
    T* rows = state + b * kept * width;
    const detail::ShortConvPast<T> past{x.row(b), rows, kept, position, width};
    for (Index first = 0; first < inner; first += stretch) {
      for_packets<T>(stretch, [&](auto at, Index c) {
        const auto channels = [&](Index group) {
          const Index channel = group * inner + first + c;
          return detail::short_conv_step_channels(at, sizes, past, taps, bias, channel, channel % width);
        };
        at.store(gate.row(b) + first + c, channels(0));
        at.store(product.row(b) + first + c, Eigen::internal::pmul(channels(1), channels(2)));
      });
    }
    if (kept > 0) std::copy_n(x.row(b), width, rows + position % kept * width);
  }
}

}  // namespace mad::cpu
