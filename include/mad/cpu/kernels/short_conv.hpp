// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Depthwise causal convolution with a short kernel, and its gradients.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <algorithm>
#include <string>

namespace mad::cpu {

/// Sizes of a short convolution. Output channel `c` reads input column `c % input_width`: with
/// `input_width < channels` the input is tiled (Hyena's projection groups) without being copied.
struct ShortConvSizes {
  Index channels = 1;
  Index input_width = 1;  ///< divides `channels`
  Index kernel = 1;       ///< number of taps
};

namespace detail {

/// Kernels up to this many taps keep their taps and a window of the input in registers.
inline constexpr int short_conv_register_taps = 8;

/// `kernel` is the number of taps that the caller is compiled for, or 0 for one known only at run time.
inline void check_short_conv(const ShortConvSizes& sizes, int kernel) {
  const bool kernel_agrees = sizes.kernel >= 1 && (kernel == 0 || sizes.kernel == kernel);
  if (!kernel_agrees || sizes.input_width < 1 || sizes.channels < 1 || sizes.channels % sizes.input_width != 0) {
    throw UsageError(
        message({"short convolution: sizes do not fit: channels ", sizes.channels, ", input_width ", sizes.input_width,
                 ", kernel ", sizes.kernel, kernel > 0 ? message({" (compiled for ", kernel, ")"}) : "",
                 "\nexpected at least one tap and an input_width that divides channels"}));
  }
}

/// `weight` (channels, 1, kernel) as `kernel` rows of `padded` channels.
template <class T>
void transpose_taps(const ShortConvSizes& sizes, const T* weight, T* taps, Index padded) {
  for (Index j = 0; j < sizes.kernel; ++j) {
    for (Index c = 0; c < sizes.channels; ++c) taps[j * padded + c] = weight[c * sizes.kernel + j];
  }
}

/// `Packets` registers of channels, all sequences: `count` is the number of channels in the last register.
template <int Kernel, int Packets, class T>
void short_conv_columns(const Shape& shape, Index count, View<const T> x, const T* taps, Index taps_stride,
                        const T* bias, View<T> y) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet tap[Packets * Kernel], offset[Packets];
  MAD_UNROLL
  for (int p = 0; p < Packets; ++p) {
    MAD_UNROLL
    for (int j = 0; j < Kernel; ++j)
      tap[p * Kernel + j] = L::load(taps + j * taps_stride + p * L::size, p == Packets - 1 ? count : L::size);
    offset[p] = bias ? L::load(bias + p * L::size, p == Packets - 1 ? count : L::size) : L::zero();
  }
  for (Index b = 0; b < shape.batch; ++b) {
    Packet window[Packets * Kernel];  // the last Kernel inputs of the sequence; zero before its beginning
    MAD_UNROLL
    for (int i = 0; i < Packets * Kernel; ++i) window[i] = L::zero();
    for (Index row = b * shape.length; row < (b + 1) * shape.length; ++row) {
      MAD_UNROLL
      for (int p = 0; p < Packets; ++p) {
        const Index lanes = p == Packets - 1 ? count : L::size;
        MAD_UNROLL
        for (int j = 0; j < Kernel - 1; ++j) window[p * Kernel + j] = window[p * Kernel + j + 1];
        window[p * Kernel + Kernel - 1] = L::load(x.row(row) + p * L::size, lanes);
        Packet sum = offset[p];
        MAD_UNROLL
        for (int j = 0; j < Kernel; ++j) sum = L::mul_add(tap[p * Kernel + j], window[p * Kernel + j], sum);
        L::store(y.row(row) + p * L::size, sum, lanes);
      }
    }
  }
}

/// Rows that lie nowhere in memory: the product of two values of as many columns.
template <class T>
struct ProductOfRows {
  View<const T> first;
  View<const T> second;

  constexpr ProductOfRows columns_from(Index c) const { return {first.columns_from(c), second.columns_from(c)}; }
};

/// The \p count numbers of a row from a column on.
template <class T>
MAD_ALWAYS_INLINE inline auto load_columns(View<const T> rows, Index row, Index column, Index count) {
  return Lanes<T>::load(rows.row(row) + column, count);
}
template <class T>
MAD_ALWAYS_INLINE inline auto load_columns(const ProductOfRows<T>& rows, Index row, Index column, Index count) {
  return Lanes<T>::mul(load_columns(rows.first, row, column, count), load_columns(rows.second, row, column, count));
}

/// Gradients of the columns above. Time runs backwards, so that one window of the output gradient serves both
/// `dx[s] = sum_j w[j] dy[s+K-1-j]` and `dw[j] = sum_s x[s] dy[s+K-1-j]`. `d_taps` holds one more row: the bias.
template <int Kernel, int Packets, class T, class Rows>
void short_conv_columns_backward(const Shape& shape, Index count, View<const T> x, const T* taps, Index taps_stride,
                                 const Rows& d_y, View<T> d_x, bool add_to_d_x, T* d_taps) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet tap[Packets * Kernel], d_tap[Packets * Kernel], d_bias[Packets];
  MAD_UNROLL
  for (int p = 0; p < Packets; ++p) {
    MAD_UNROLL
    for (int j = 0; j < Kernel; ++j) {
      tap[p * Kernel + j] = L::load(taps + j * taps_stride + p * L::size, p == Packets - 1 ? count : L::size);
      d_tap[p * Kernel + j] = L::zero();
    }
    d_bias[p] = L::zero();
  }
  for (Index b = 0; b < shape.batch; ++b) {
    Packet window[Packets * Kernel];  // entry j: the output gradient j rows ahead; zero beyond the end
    MAD_UNROLL
    for (int i = 0; i < Packets * Kernel; ++i) window[i] = L::zero();
    for (Index row = (b + 1) * shape.length - 1; row >= b * shape.length; --row) {
      MAD_UNROLL
      for (int p = 0; p < Packets; ++p) {
        const Index lanes = p == Packets - 1 ? count : L::size;
        MAD_UNROLL
        for (int i = 0; i < Kernel - 1; ++i) {
          const int j = Kernel - 1 - i;
          window[p * Kernel + j] = window[p * Kernel + j - 1];
        }
        window[p * Kernel] = load_columns(d_y, row, p * L::size, lanes);
        const Packet input = L::load(x.row(row) + p * L::size, lanes);
        T* out = d_x.row(row) + p * L::size;
        Packet sum = add_to_d_x ? L::load(out, lanes) : L::zero();
        MAD_UNROLL
        for (int j = 0; j < Kernel; ++j) {
          const Packet ahead = window[p * Kernel + Kernel - 1 - j];
          sum = L::mul_add(tap[p * Kernel + j], ahead, sum);
          d_tap[p * Kernel + j] = L::mul_add(input, ahead, d_tap[p * Kernel + j]);
        }
        d_bias[p] = L::add(d_bias[p], window[p * Kernel]);
        L::store(out, sum, lanes);
      }
    }
  }
  MAD_UNROLL
  for (int p = 0; p < Packets; ++p) {
    MAD_UNROLL
    for (int j = 0; j < Kernel; ++j)
      L::store(d_taps + j * taps_stride + p * L::size, d_tap[p * Kernel + j], p == Packets - 1 ? count : L::size);
    L::store(d_taps + Kernel * taps_stride + p * L::size, d_bias[p], p == Packets - 1 ? count : L::size);
  }
}

/// One register of channels, any number of taps.
template <class T>
void short_conv_column(const Shape& shape, Index kernel, Index count, View<const T> x, const T* taps, Index taps_stride,
                       const T* bias, View<T> y) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  const Packet offset = bias ? L::load(bias, count) : L::zero();
  for (Index b = 0; b < shape.batch; ++b) {
    for (Index t = 0; t < shape.length; ++t) {
      const Index row = b * shape.length + t;
      Packet sum = offset;
      for (Index j = std::max<Index>(0, kernel - 1 - t); j < kernel; ++j) {
        sum = L::mul_add(L::load(taps + j * taps_stride, count), L::load(x.row(row - (kernel - 1) + j), count), sum);
      }
      L::store(y.row(row), sum, count);
    }
  }
}

template <class T, class Rows>
void short_conv_column_backward(const Shape& shape, Index kernel, Index count, View<const T> x, const T* taps,
                                Index taps_stride, const Rows& d_y, View<T> d_x, bool add_to_d_x, T* d_taps) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  for (Index b = 0; b < shape.batch; ++b) {
    for (Index s = 0; s < shape.length; ++s) {
      const Index row = b * shape.length + s;
      Packet sum = add_to_d_x ? L::load(d_x.row(row), count) : L::zero();
      for (Index j = std::max<Index>(0, s + kernel - shape.length); j < kernel; ++j) {
        sum =
            L::mul_add(L::load(taps + j * taps_stride, count), load_columns(d_y, row + kernel - 1 - j, 0, count), sum);
      }
      L::store(d_x.row(row), sum, count);
    }
  }
  for (Index j = 0; j <= kernel; ++j) {
    const Index lag = kernel - 1 - j;
    Packet sum = L::zero();
    for (Index b = 0; b < shape.batch; ++b) {
      for (Index t = std::max<Index>(0, lag); t < shape.length; ++t) {
        const Index row = b * shape.length + t;
        const Packet gradient = load_columns(d_y, row, 0, count);
        sum = j < kernel ? L::mul_add(L::load(x.row(row - lag), count), gradient, sum) : L::add(sum, gradient);
      }
    }
    L::store(d_taps + j * taps_stride, sum, count);
  }
}

/// Cuts `width` channels into blocks of `Packets` registers, single registers and one partial register, and calls
/// `body(first channel, Packets or 1 as a constant, channels in the last register)`.
template <int Packets, class T, class Body>
void for_channel_blocks(Index width, const Body& body) {
  constexpr Index size = Lanes<T>::size;
  Index c = 0;
  for (; c + Packets * size <= width; c += Packets * size) body(c, std::integral_constant<int, Packets>{}, size);
  for (; c < width; c += size) body(c, std::integral_constant<int, 1>{}, std::min(size, width - c));
}

/// Channels [0, channels) of a short convolution, from its transposed taps.
template <int Kernel, class T>
void short_conv_channels(const Shape& shape, const ShortConvSizes& sizes, Index channels, View<const T> x,
                         const T* taps, const T* bias, View<T> y) {
  const Index padded = sizes.channels;
  // The registers of one block: taps, window and offset of each packet, and two to work with.
  constexpr int packets = Kernel == 0 ? 1 : std::clamp((Lanes<T>::registers - 2) / (2 * Kernel + 1), 1, 4);
  for (Index group = 0; group < channels; group += sizes.input_width) {
    for_channel_blocks<packets, T>(
        std::min(sizes.input_width, channels - group), [&](Index c, auto block, Index count) {
          const Index channel = group + c;
          const T* offset = bias ? bias + channel : nullptr;
          if constexpr (Kernel >= 1 && Kernel <= short_conv_register_taps) {
            short_conv_columns<Kernel, block>(shape, count, x.columns_from(c), taps + channel, padded, offset,
                                              y.columns_from(channel));
          } else {
            short_conv_column(shape, sizes.kernel, count, x.columns_from(c), taps + channel, padded, offset,
                              y.columns_from(channel));
          }
        });
  }
}

/// Their gradients: `d_x` is overwritten by the first channel that reads a column, the others add to it. `d_y` is a
/// `View<const T>` or a `ProductOfRows<T>`.
template <int Kernel, class T, class Rows>
void short_conv_channels_backward(const Shape& shape, const ShortConvSizes& sizes, Index channels, View<const T> x,
                                  const T* taps, const Rows& d_y, View<T> d_x, T* d_taps) {
  const Index padded = sizes.channels;
  constexpr int packets = Kernel == 0 ? 1 : std::clamp((Lanes<T>::registers - 3) / (3 * Kernel + 1), 1, 4);
  for (Index group = 0; group < channels; group += sizes.input_width) {
    for_channel_blocks<packets, T>(
        std::min(sizes.input_width, channels - group), [&](Index c, auto block, Index count) {
          const Index channel = group + c;
          if constexpr (Kernel >= 1 && Kernel <= short_conv_register_taps) {
            short_conv_columns_backward<Kernel, block>(shape, count, x.columns_from(c), taps + channel, padded,
                                                       d_y.columns_from(channel), d_x.columns_from(c), group > 0,
                                                       d_taps + channel);
          } else {
            short_conv_column_backward(shape, sizes.kernel, count, x.columns_from(c), taps + channel, padded,
                                       d_y.columns_from(channel), d_x.columns_from(c), group > 0, d_taps + channel);
          }
        });
  }
}

/// Adds `kernel` rows of taps' gradients, and the row of the biases' behind them, to the parameters' gradients.
template <class T>
void add_tap_gradients(const ShortConvSizes& sizes, const T* d_taps, T* d_weight, T* d_bias) {
  for (Index j = 0; j < sizes.kernel; ++j) {
    for (Index c = 0; c < sizes.channels; ++c) d_weight[c * sizes.kernel + j] += d_taps[j * sizes.channels + c];
  }
  if (d_bias) {
    for (Index c = 0; c < sizes.channels; ++c) d_bias[c] += d_taps[sizes.kernel * sizes.channels + c];
  }
}

}  // namespace detail

/// `y[t,c] = bias[c] + sum_j weight[c,0,j] x[t-(K-1)+j, c % input_width]`, zero before a sequence's beginning; the last
/// tap acts on the current position. x (tokens, input_width); weight (channels, 1, K); bias (channels) or null; y
/// (tokens, channels), overwritten. `Kernel` is K, or 0 to take `sizes.kernel` at run time.
template <int Kernel = 0, class T>
void short_conv_forward(const Shape& shape, const ShortConvSizes& sizes, View<const T> x, const T* weight,
                        const T* bias, View<T> y, Workspace& workspace) {
  detail::check_short_conv(sizes, Kernel);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  detail::short_conv_channels<Kernel>(shape, sizes, sizes.channels, x, taps, bias, y);
}

/// Gradients of `short_conv_forward`: `d_x` (tokens, input_width) is overwritten, with the sum over the tiled copies;
/// `d_weight` (channels, 1, K) and `d_bias` (channels, or null) are added to.
template <int Kernel = 0, class T>
void short_conv_backward(const Shape& shape, const ShortConvSizes& sizes, View<const T> x, const T* weight,
                         View<const T> d_y, View<T> d_x, T* d_weight, T* d_bias, Workspace& workspace) {
  detail::check_short_conv(sizes, Kernel);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  T* d_taps = frame.template take<T>((sizes.kernel + 1) * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  detail::short_conv_channels_backward<Kernel>(shape, sizes, sizes.channels, x, taps, d_y, d_x, d_taps);
  detail::add_tap_gradients(sizes, d_taps, d_weight, d_bias);
}

}  // namespace mad::cpu
