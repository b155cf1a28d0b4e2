// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Memory of the device that is given back by itself.
#pragma once

#include <mad/cuda/device/error.hpp>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace mad::cuda {

/// `size` elements on the device, not initialised. Aligned to 256 bytes.
template <class T>
class Buffer {
public:
  Buffer() = default;
  Buffer(Index size, std::string_view what) : size_(size) {
    if (size > 0) data_ = static_cast<T*>(allocate(static_cast<std::size_t>(size) * sizeof(T), what));
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() {
    if (data_ == nullptr) return;
    const auto device = hold_device();
    cudaFree(data_);
  }

  T* data() const { return data_; }
  Index size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

  /// Copies from the host and waits; \p values holds `size()` elements at most.
  void upload(std::span<const T> values, cudaStream_t stream) {
    check(cudaMemcpyAsync(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice, stream),
          "copy to the device");
    check(cudaStreamSynchronize(stream), "wait for a copy to the device");
  }
  /// Copies \p count elements from \p first on to the host and waits.
  std::vector<T> download(cudaStream_t stream, Index first, Index count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    check(cudaMemcpyAsync(values.data(), data_ + first, values.size() * sizeof(T), cudaMemcpyDeviceToHost, stream),
          "copy from the device");
    check(cudaStreamSynchronize(stream), "wait for a copy from the device");
    return values;
  }
  std::vector<T> download(cudaStream_t stream) const { return download(stream, 0, size_); }

private:
  T* data_ = nullptr;
  Index size_ = 0;
};

/// Cuts one block of memory into parts that begin at multiples of 256 bytes. Without memory it only measures.
class Cutter {
public:
  Cutter() = default;
  explicit Cutter(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(Index count) {
    const Index begin = used_;
    used_ += (count * static_cast<Index>(sizeof(T)) + 255) / 256 * 256;
    return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + begin);
  }
  Index used() const { return used_; }

private:
  std::byte* memory_ = nullptr;
  Index used_ = 0;
};

}  // namespace mad::cuda
