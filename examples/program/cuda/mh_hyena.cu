// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "width.cuh"

#include <mad/layers/mh_hyena.hpp>

namespace {
[[maybe_unused]] const bool compiled = compile<mad::MultiHeadHyena>();
}
