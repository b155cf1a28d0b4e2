// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// In which numbers a model computes on the device.
#pragma once

#include <cuda_bf16.h>

#include <string_view>

namespace mad::cuda {

/// 8 bits of exponent, 8 of significand.
using BFloat16 = __nv_bfloat16;

/// Everything in 32 bits, matrix products too (no TF32).
struct Exact {
  static constexpr std::string_view name = "fp32";
  using Activation = float;
};

/// Values of tokens and sequences are stored in bfloat16 and multiplied as such; sums, parameters, their gradients, and
/// everything that the batch shares are in 32 bits.
struct Mixed {
  static constexpr std::string_view name = "bf16";
  using Activation = BFloat16;
};

}  // namespace mad::cuda
