// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/moe_mlp.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::HyenaExperts, mad::MoeMlp>();
}
