// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Work that is recorded once and started with one call.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/cuda/device/device_lock.hpp>
#include <mad/cuda/device/error.hpp>

#include <cstddef>
#include <optional>
#include <utility>

namespace mad::cuda {

/// A CUDA graph of the work that `work()` puts into a stream.
class Graph {
public:
  template <class Work>
  Graph(cudaStream_t stream, const Work& work) {
    const auto device = hold_device();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin recording a step");
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream, &recorded_);
      forget();
      cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(stream, &recorded_), "end recording a step");
    make_executable();
  }
  Graph(Graph&& other) noexcept
      : recorded_(std::exchange(other.recorded_, nullptr)), executable_(std::exchange(other.executable_, nullptr)) {}
  Graph& operator=(Graph&&) = delete;
  ~Graph() { forget(); }

  /// The same work so many times, one after the other, to be started with one call: between two graphs a device pauses
  /// for about 10 us.
  Graph repeated(int times) const {
    const auto device = hold_device();
    Graph all;
    check(cudaGraphCreate(&all.recorded_, 0), "record several steps");
    cudaGraphNode_t last{};
    for (int i = 0; i < times; ++i) {
      const cudaGraphNode_t before = last;
      check(cudaGraphAddChildGraphNode(&last, all.recorded_, &before, i > 0 ? 1 : 0, recorded_),
            "record several steps");
    }
    all.make_executable();
    return all;
  }

  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(executable_, stream), "start a recorded step"); }
  /// Kernels, copies and the like.
  std::size_t nodes() const {
    std::size_t count = 0;
    check(cudaGraphGetNodes(recorded_, nullptr, &count), "count what is recorded");
    return count;
  }

private:
  Graph() = default;
  void make_executable() {
    const cudaError_t status = cudaGraphInstantiate(&executable_, recorded_, 0);
    if (status != cudaSuccess) forget();
    check(status, "make a recorded step executable");
  }
  void forget() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    if (recorded_ != nullptr) cudaGraphDestroy(recorded_);
    executable_ = nullptr;
    recorded_ = nullptr;
  }

  cudaGraph_t recorded_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

/// Work that is recorded once and started any number of times, several at a time where there are so many.
class RecordedSteps {
public:
  /// \param most how many may ever come one after the other
  template <class Work>
  RecordedSteps(cudaStream_t stream, Index most, const Work& work) : once_(stream, work) {
    if (most >= together) several_.emplace(once_.repeated(together));
  }

  /// Starts as many as one call takes, at most \p most; returns how many.
  Index launch(cudaStream_t stream, Index most) const {
    const bool several = several_.has_value() && most >= together;
    (several ? *several_ : once_).launch(stream);
    return several ? together : 1;
  }
  std::size_t nodes() const { return once_.nodes(); }  ///< of one

private:
  static constexpr int together = 8;

  Graph once_;
  std::optional<Graph> several_;
};

}  // namespace mad::cuda
