// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The sums over shares of rows with which both kernels for gradients of weights end.
#pragma once

#include <mad/cuda/instructions/numbers.cuh>

#include <cstddef>

namespace mad::cuda {

/// The warps of a block take turns at shares, `stride` numbers apart: adds up what this one has of the four numbers at
/// \p from, in order.
template <int Warps>
__device__ void add_shares_in_turn(const float* from, std::size_t stride, unsigned shares, float (&sum)[4]) {
  constexpr unsigned at_once = 4;
  for (unsigned s = threadIdx.x / 32; s < shares; s += at_once * Warps) {
    float next[at_once][4];  // without a branch, so that all is on its way at once
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k) load(from + min(s + k * Warps, shares - 1) * stride, next[k]);
#pragma unroll
    for (unsigned k = 0; k < at_once; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += s + k * Warps < shares ? next[k][i] : 0.0f;
  }
}

}  // namespace mad::cuda
