// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::Mlp, mad::SwiGLU>();
}
