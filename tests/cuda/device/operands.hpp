// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Operands of a kernel by itself, in the device's memory. Numbers of bfloat16 are bits on the host.
#pragma once

#include <mad/cuda/device/memory.hpp>
#include <mad/cuda/device/precision.hpp>
#include <mad/cuda/device/queue.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace mad::testing {

/// Of one type, in the order in which they came. They stay where they are as more come.
template <class T>
class Operands {
public:
  using Host = std::conditional_t<std::is_same_v<T, cuda::BFloat16>, std::uint16_t, T>;

  explicit Operands(const cuda::Queue& queue) : queue_(queue) {}

  /// Null for what is empty: it is not there.
  T* upload(const std::vector<Host>& values) {
    if (values.empty()) return nullptr;
    memory_.emplace_back(static_cast<Index>(values.size()), "an operand");
    memory_.back().upload({reinterpret_cast<const T*>(values.data()), values.size()}, queue_.stream());
    return memory_.back().data();
  }
  /// The number of the operand that came last.
  std::size_t last() const { return memory_.size() - 1; }

  std::vector<Host> download(std::size_t number) const {
    const std::vector<T> found = memory_.at(number).download(queue_.stream());
    std::vector<Host> values(found.size());
    std::memcpy(values.data(), found.data(), found.size() * sizeof(T));
    return values;
  }

private:
  const cuda::Queue& queue_;
  std::vector<cuda::Buffer<T>> memory_;
};

}  // namespace mad::testing
