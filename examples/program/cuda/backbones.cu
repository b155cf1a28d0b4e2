// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/registration.cuh>

namespace {
[[maybe_unused]] const bool compiled = mad::cuda::add_backbones<128>();
}
