// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How a kernel that treats every chunk of every row alike is spread over threads, without a division in any of them.
#pragma once

#include <mad/core/view.hpp>

#include <algorithm>
#include <bit>

namespace mad::cuda {

/// One thread per chunk of each row; some threads have none.
struct RowGrid {
  static constexpr unsigned threads = 256;

  dim3 blocks;
  dim3 block;

  RowGrid(Index rows, Index chunks) {
    const unsigned lanes = std::bit_ceil(static_cast<unsigned>(std::clamp<Index>(chunks, 1, threads)));
    block = dim3(lanes, threads / lanes);
    blocks = dim3(static_cast<unsigned>((rows + block.y - 1) / block.y),
                  static_cast<unsigned>((chunks + block.x - 1) / block.x));
  }

  static __device__ unsigned row() { return blockIdx.x * blockDim.y + threadIdx.y; }
  static __device__ unsigned chunk() { return blockIdx.y * blockDim.x + threadIdx.x; }
};

}  // namespace mad::cuda
