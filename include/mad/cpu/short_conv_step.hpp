// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Short convolution of one more token, from the last inputs.
#pragma once

#include <mad/cpu/packet_loop.hpp>
#include <mad/cpu/short_conv.hpp>

#include <algorithm>

namespace mad::cpu {

/// Numbers that `short_conv_step` keeps for one sequence of up to \p longest tokens.
constexpr Index short_conv_step_state(const ShortConvSizes& sizes, Index longest) {
  return std::min(sizes.kernel - 1, longest) * sizes.input_width;
}

/// `short_conv_forward` for the token at \p position, below \p longest, of each of \p batch sequences; x (batch,
/// input_width), y (batch, channels). \p state holds per sequence the last inputs, position p in row p mod (kernel -
/// 1).
template <class T>
void short_conv_step(Index batch, Index longest, Index position, const ShortConvSizes& sizes, View<const T> x,
                     const T* weight, const T* bias, View<T> y, T* state, Workspace& workspace) {
  using namespace Eigen::internal;
  detail::check_short_conv(sizes, 0);
  Workspace::Frame frame(workspace);
  T* taps = frame.template take<T>(sizes.kernel * sizes.channels);
  detail::transpose_taps(sizes, weight, taps, sizes.channels);
  const Index kept = std::min(sizes.kernel - 1, longest);
  const Index width = sizes.input_width;
  for (Index b = 0; b < batch; ++b) {
    T* past = state + b * kept * width;
    for (Index group = 0; group < sizes.channels; group += width) {
      for_packets<T>(width, [&](auto at, Index c) {
        const T* tap = taps + group + c;
        auto sum = bias ? at.load(bias + group + c) : at.all(T(0));
        for (Index lag = std::min(kept, position); lag > 0; --lag) {
          const auto input = at.load(past + (position - lag) % kept * width + c);
          sum = pmadd(at.load(tap + (sizes.kernel - 1 - lag) * sizes.channels), input, sum);
        }
        sum = pmadd(at.load(tap + (sizes.kernel - 1) * sizes.channels), at.load(x.row(b) + c), sum);
        at.store(y.row(b) + group + c, sum);
      });
    }
    if (kept > 0) std::copy_n(x.row(b), width, past + position % kept * width);
  }
}

}  // namespace mad::cpu
