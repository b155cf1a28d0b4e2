// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Work that is recorded once and started with one call.
#pragma once

#include <mad/cuda/error.hpp>

#include <utility>

namespace mad::cuda {

/// A CUDA graph of the work that `work()` puts into a stream.
class Graph {
public:
  template <class Work>
  Graph(cudaStream_t stream, const Work& work) {
    const auto device = hold_device();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin recording a step");
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "end recording a step");
    cudaGraphGetNodes(graph, nullptr, &nodes_);
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "make a recorded step executable");
  }
  Graph(Graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)), nodes_(other.nodes_) {}
  Graph& operator=(Graph&&) = delete;
  ~Graph() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  }

  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(executable_, stream), "start a recorded step"); }
  std::size_t nodes() const { return nodes_; }  ///< kernels, copies and the like

private:
  cudaGraphExec_t executable_ = nullptr;
  std::size_t nodes_ = 0;
};

}  // namespace mad::cuda
