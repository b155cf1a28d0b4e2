// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// All headers that describe architectures, through nvcc; and a kernel, so that there is a device pass.
#include "description_headers.hpp"

__global__ void add_rows(mad::View<const float> from, mad::View<float> to) {
  // No call: device code may not use the constexpr functions of the host.
  to.data[threadIdx.x] += from.data[threadIdx.x];
}
