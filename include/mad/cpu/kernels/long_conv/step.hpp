// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Long convolution of one more token, from all inputs before it.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <algorithm>

namespace mad::cpu {

/// Numbers that `long_conv_step` keeps for one sequence of up to \p longest tokens: a filter without a recurrence needs
/// them all.
constexpr Index long_conv_step_state(Index longest, Index channels) { return longest * channels; }

/// `y[c] = sum_{s<=t} filter[t-s, c % filter_width] u[s,c] + skip[c % filter_width] u[t,c]` for the token at \p
/// position t, below \p longest, of each of \p batch sequences; u, y (batch, channels); \p filter (positions,
/// filter_width); \p skip (filter_width). \p state holds per sequence the inputs so far, (longest, channels). Cost
/// grows with t.
template <class T>
void long_conv_step(Index batch, Index longest, Index position, Index channels, Index filter_width, View<const T> u,
                    View<const T> filter, const T* skip, View<T> y, T* state) {
  using L = Lanes<T>;
  constexpr int registers = 4;
  for (Index b = 0; b < batch; ++b) {
    T* history = state + b * longest * channels;
    std::copy_n(u.row(b), channels, history + position * channels);
    for (Index group = 0; group < channels; group += filter_width) {
      detail::for_channel_blocks<registers, T>(filter_width, [&](Index c, auto block, Index count) {
        constexpr int size = decltype(block)::value;
        const T* input = history + group + c;
        const auto lanes = [count](int p) { return p == size - 1 ? count : L::size; };
        typename L::Packet sum[size];
        MAD_UNROLL
        for (int p = 0; p < size; ++p)
          sum[p] = L::mul(L::load(skip + c + p * L::size, lanes(p)),
                          L::load(input + position * channels + p * L::size, lanes(p)));
        for (Index s = 0; s <= position; ++s) {
          const T* taps = filter.row(position - s) + c;
          MAD_UNROLL
          for (int p = 0; p < size; ++p)
            sum[p] = L::mul_add(L::load(taps + p * L::size, lanes(p)),
                                L::load(input + s * channels + p * L::size, lanes(p)), sum[p]);
        }
        MAD_UNROLL
        for (int p = 0; p < size; ++p) L::store(y.row(b) + group + c + p * L::size, sum[p], lanes(p));
      });
    }
  }
}

}  // namespace mad::cpu
