// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How many neighbouring columns one thread takes.
#pragma once

#include <algorithm>

namespace mad::cuda {

/// The largest power of two that divides \p Width and is no more than any of \p Chunks, which are powers of two (see
/// `Call::in_chunk`).
template <int Width, int... Chunks>
constexpr int common_chunk() {
  int chunk = std::min({Chunks...});
  while (Width % chunk != 0) chunk /= 2;
  return chunk;
}

}  // namespace mad::cuda
