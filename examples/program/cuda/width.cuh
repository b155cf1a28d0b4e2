// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The layers of the program mad for the CUDA device, one source file per family like those for the CPU. They are found
/// by what they compute (mad::cuda::BlockList); nothing has to call these files.
#pragma once

#include <mad/cuda/registration.cuh>

/// Compiles layers at the width that the program has on the device, at both precisions.
template <mad::Layer... L>
bool compile() {
  return mad::cuda::add_layers<mad::cuda::Exact, 128, L...>() && mad::cuda::add_layers<mad::cuda::Mixed, 128, L...>();
}
