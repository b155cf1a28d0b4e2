// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/hgrn2.hpp>
#include <mad/layers/mamba2.hpp>
#include <mad/layers/retnet.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::RetNet, mad::HGRN2, mad::Mamba2>();
}
