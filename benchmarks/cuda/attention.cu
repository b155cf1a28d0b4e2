// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "step_time.cuh"

mad::benchmark::Measure mad::benchmark::find_attention(const std::string& precision) {
  return find<Stack<Attn, SwiGLU, Attn, SwiGLU>>(precision);
}
