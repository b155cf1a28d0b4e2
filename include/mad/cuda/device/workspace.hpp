// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Memory that kernels need while they run.
#pragma once

#include <mad/cuda/device/memory.hpp>

#include <algorithm>

namespace mad::cuda {

/// Memory that is cut off piece by piece and given back at once.
class Workspace {
public:
  template <class T>
  T* take(Index count, bool rehearsing) {
    const Index begin = used_;
    used_ += (count * static_cast<Index>(sizeof(T)) + 255) / 256 * 256;
    demand_ = std::max(demand_, used_);
    if (rehearsing) return nullptr;
    if (used_ > memory_.size()) throw Error("CUDA: a kernel wants more workspace than it did in the rehearsal");
    return reinterpret_cast<T*>(memory_.data() + begin);
  }
  void release() { used_ = 0; }
  Index demand() const { return demand_; }
  void want(Index bytes) { demand_ = std::max(demand_, bytes); }
  void allocate() {
    if (memory_.size() < demand_) memory_ = Buffer<std::byte>(demand_, "the kernels' workspace");
  }

private:
  Buffer<std::byte> memory_;
  Index used_ = 0;
  Index demand_ = 0;
};

}  // namespace mad::cuda
