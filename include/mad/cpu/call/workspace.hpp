// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Short-lived memory of one thread: what a kernel needs while it runs and nobody reads afterwards.
#pragma once

#include <mad/core/shape.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace mad::cpu {

/// A stack of aligned blocks. A kernel opens a `Frame`, takes what it needs, and everything is given back when the
/// frame ends; the memory itself is kept, so after the first call nothing is allocated.
class Workspace {
public:
  static constexpr std::size_t alignment = 64;

  class Frame {
  public:
    explicit Frame(Workspace& workspace) : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    ~Frame() {
      workspace_.block_ = block_;
      workspace_.used_ = used_;
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    /// `count` uninitialised elements, aligned to 64 bytes, valid until the frame ends.
    template <class T>
    T* take(Index count) {
      return static_cast<T*>(workspace_.take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
    }

  private:
    Workspace& workspace_;
    std::size_t block_;
    std::size_t used_;
  };

  /// Bytes held for later calls.
  std::size_t capacity() const {
    std::size_t total = 0;
    for (const Block& block : blocks_) total += block.size;
    return total;
  }

private:
  struct Release {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{alignment}); }
  };
  struct Block {
    std::unique_ptr<std::byte[], Release> bytes;
    std::size_t size;
  };

  void* take_bytes(std::size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      constexpr std::size_t smallest = std::size_t{1} << 20;
      const std::size_t size = bytes > smallest ? bytes : smallest;
      auto* raw = static_cast<std::byte*>(::operator new[](size, std::align_val_t{alignment}));
      blocks_.push_back({std::unique_ptr<std::byte[], Release>(raw), size});
      used_ = 0;
    }
    void* result = blocks_[block_].bytes.get() + used_;
    used_ += bytes;
    return result;
  }

  std::vector<Block> blocks_;
  std::size_t block_ = 0;
  std::size_t used_ = 0;
};

}  // namespace mad::cpu
