// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Short convolution of one more token, from the last inputs.
#pragma once

#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>

namespace mad::cpu {

/// Numbers that `short_conv_step` keeps for one sequence of up to \p longest tokens.
constexpr Index short_conv_step_state(const ShortConvSizes& sizes, Index longest) {
  return std::min(sizes.kernel - 1, longest) * sizes.input_width;
}

namespace detail {

/// The inputs of one sequence that a step sees.
template <class T>
struct ShortConvPast {
  const T* now;  ///< at the position
  const T* kept_rows;
  Index kept;
  Index position;
  Index width;
};

/// The packet of channels from \p channel on, which read the columns from \p column on.
template <class T, class Access>
MAD_ALWAYS_INLINE inline auto short_conv_step_channels(Access at, const ShortConvSizes& sizes,
                                                       const ShortConvPast<T>& past, const T* taps, const T* bias,
                                                       Index channel, Index column) {
  using namespace Eigen::internal;
  const T* tap = taps + channel;
  auto sum = bias ? at.load(bias + channel) : at.all(T(0));
  for (Index lag = std::min(past.kept, past.position); lag > 0; --lag) {
    const auto input = at.load(past.kept_rows + (past.position - lag) % past.kept * past.width + column);
    sum = pmadd(at.load(tap + (sizes.kernel - 1 - lag) * sizes.channels), input, sum);
  }
  return pmadd(at.load(tap + (sizes.kernel - 1) * sizes.channels), at.load(past.now + column), sum);
}

}  // namespace detail

/// `short_conv_forward` for the token at \p position, below \p longest, of each of \p batch sequences; x (batch,
/// input_width), y (batch, channels). \p state holds per sequence the last inputs, position p in row p mod (kernel -
/// 1).
template <class T>
void short_conv_step(Index batch, Index longest, Index position, const ShortConvSizes& sizes, View<const T> x,
                     const T* weight, const T* bias, View<T> y, T* state, Workspace& workspace) {
  detail::check_short_conv(sizes, 0);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  const Index kept = std::min(sizes.kernel - 1, longest);
  const Index width = sizes.input_width;
  for (Index b = 0; b < batch; ++b) {
    T* rows = state + b * kept * width;
    const detail::ShortConvPast<T> past{x.row(b), rows, kept, position, width};
    for (Index group = 0; group < sizes.channels; group += width) {
      for_packets<T>(width, [&](auto at, Index c) {
        at.store(y.row(b) + group + c, detail::short_conv_step_channels(at, sizes, past, taps, bias, group + c, c));
      });
    }
    if (kept > 0) std::copy_n(x.row(b), width, rows + position % kept * width);
  }
}

}  // namespace mad::cpu
