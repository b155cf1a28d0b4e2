// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Models train side by side on threads of their own. What one of them does to the whole device waits for the others.
#pragma once

#include <mutex>

namespace mad::cuda {

/// Held while a graph is recorded, and around every call that waits for all of the device: allocating and freeing
/// memory, opening and closing cuBLASLt. Such a call from another thread spoils a recording, in whatever mode it is
/// made; the recording thread then finds cudaErrorStreamCaptureInvalidated.
inline std::unique_lock<std::recursive_mutex> hold_device() {
  static std::recursive_mutex device;
  return std::unique_lock(device);
}

}  // namespace mad::cuda
