// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The order in which one model's work reaches the device: a stream, the memory kernels need while they run, and the
/// rehearsal that finds out how much that is.
#pragma once

#include <mad/cuda/memory.hpp>
#include <mad/cuda/weight_gradient.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <type_traits>
#include <vector>

namespace mad::cuda {

/// A piece of memory.
struct Bytes {
  const std::byte* begin;
  const std::byte* end;
};

/// A stream with all that kernels need besides their operands. Everything in it belongs to one model, so that several
/// models can train side by side.
///
/// The same code runs twice. In the rehearsal nothing is launched: the kernels' demands for workspace are noted and
/// constant tables are made. After `allocate_workspace` it runs in earnest, usually while the stream is captured into a
/// CUDA graph, where nothing may be allocated.
class Queue {
public:
  explicit Queue(int multiprocessors) : Queue(multiprocessors, true) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() {
    const auto device = hold_device();
    cublasLtDestroy(products_);
    cudaEventDestroy(reached_);
    cudaStreamDestroy(stream_);
  }

  /// A second queue for work that need not keep the first one waiting. It is rehearsed with it.
  Queue& side() { return *side_; }
  /// The side queue, for work that waits for all that is in this one by now. A side queue's is itself.
  Queue& begin_aside() {
    if (side_ == nullptr) return *this;
    side_->wait_for(*this);
    side_->release();
    return *side_;
  }
  /// Gradients of weights and biases, sums over \p rows rows, that are deferred: `start` is to start them all together,
  /// before anything waits for this queue and at the latest when `start_deferred` is called.
  template <class T>
  std::vector<WeightGradientOf<T>>& defer(Index rows, void (*start)(Queue&, const DeferredGradients<T>&)) {
    DeferredGradients<T>& d = deferred<T>();
    if (rows != d.rows) start_all(d);
    d.rows = rows;
    d.start = start;
    return d.gradients;
  }
  bool defers() const { return defers_; }
  void defer_nothing(bool nothing) { defers_ = !nothing; }
  /// Starts what was deferred here and in the side queue.
  void start_deferred() {
    start_own();
    if (side_ != nullptr) side_->start_own();
  }

  /// What comes next in this queue waits for all that is in the other by now.
  void wait_for(Queue& other) {
    other.start_own();
    if (&other == side_.get()) {
      reserved_.clear();
      handed_.release();
    }
    if (rehearsing_) return;
    check(cudaEventRecord(other.reached_, other.stream_), "mark a place in a stream");
    check(cudaStreamWaitEvent(stream_, other.reached_, 0), "wait for another stream");
  }

  /// Notes memory that work in the side queue reads, or else writes, until this queue has waited for it.
  void reserve_aside(Bytes bytes, bool written) {
    if (side_ != nullptr) reserved_.push_back({bytes, written});
  }
  bool has_reserved() const { return !reserved_.empty(); }
  /// True if work in the side queue may still write \p bytes, or read them where they are to be written.
  bool is_reserved(Bytes bytes, bool to_write) const {
    return std::any_of(reserved_.begin(), reserved_.end(), [&](const Reserved& r) {
      return (to_write || r.written) && bytes.begin < r.bytes.end && r.bytes.begin < bytes.end;
    });
  }

  cudaStream_t stream() const { return stream_; }
  cublasLtHandle_t products() const { return products_; }
  bool rehearsing() const { return rehearsing_; }
  int multiprocessors() const { return multiprocessors_; }
  /// Bytes that a block may ask for.
  int shared_memory_per_block() const { return shared_memory_per_block_; }

  /// Between `begin_rehearsal` and `allocate_workspace` nothing is launched.
  void begin_rehearsal() {
    forget();
    rehearsing_ = true;
    if (side_ != nullptr) side_->begin_rehearsal();
  }
  /// Drops what a recording that failed has left: gradients that were to come, and memory that was noted.
  void forget() {
    deferred_.gradients.clear();
    exact_deferred_.gradients.clear();
    defers_ = true;
    reserved_.clear();
    handed_.release();
    if (side_ != nullptr) side_->forget();
  }
  void allocate_workspace() {
    rehearsing_ = false;
    if (side_ != nullptr) side_->allocate_workspace();
    workspace_.allocate();
    handed_.allocate();
  }

  /// Gives the workspace back: the next kernel may use it, being later on the same stream.
  void release() { workspace_.release(); }
  /// Memory until the next `release`, aligned to 256 bytes. A null pointer in the rehearsal.
  template <class T>
  T* take(Index count) {
    return workspace_.take<T>(count, rehearsing_);
  }
  /// Memory that is written here and read aside: it lasts until this queue has waited for the side queue.
  template <class T>
  T* take_for_aside(Index count) {
    return side_ == nullptr ? take<T>(count) : handed_.take<T>(count, rehearsing_);
  }

  /// \p count counters that are 0 whenever no kernel runs: who uses them leaves them so.
  int* counters(Index count) const {
    if (count > counter_count) throw Error("CUDA: a kernel wants " + std::to_string(count) + " counters");
    return counters_.data();
  }

  /// A constant table, made once by `fill(T* host)` and kept. \p key tells tables apart.
  template <class T, class Fill>
  const T* table(const std::array<double, 4>& key, Index count, const Fill& fill) {
    for (const Table& t : tables_)
      if (t.key == key) return reinterpret_cast<const T*>(t.memory.data());
    std::vector<T> host(static_cast<std::size_t>(count));
    fill(host.data());
    Buffer<std::byte> memory(count * static_cast<Index>(sizeof(T)), "a constant table");
    memory.upload(std::as_bytes(std::span(host)), stream_);
    tables_.push_back({key, std::move(memory)});
    return reinterpret_cast<const T*>(tables_.back().memory.data());
  }

  /// Starts a kernel. Arguments must have the kernel's parameter types up to conversion. Nothing happens for an empty
  /// grid.
  template <class... Parameters, class... Arguments>
  void launch(std::string_view what, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
              const Arguments&... arguments) {
    launch_converted<Parameters...>(what, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
                                    arguments...);
  }
  /// The same for a kernel without a type and the addresses of its arguments.
  [[gnu::noinline]] void launch_kernel(std::string_view what, const void* kernel, dim3 grid, dim3 block,
                                       std::size_t shared_bytes, void** arguments) {
    if (rehearsing_ || grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared_bytes > 48 * 1024) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
            "give " + std::string(what) + " " + std::to_string(shared_bytes) + " bytes of shared memory");
    }
    check(cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream_), "launch " + std::string(what));
  }

  /// Sets \p bytes bytes to zero.
  void zero(void* memory, std::size_t bytes) {
    if (rehearsing_ || bytes == 0) return;
    check(cudaMemsetAsync(memory, 0, bytes, stream_), "clear memory");
  }

  void wait() const { check(cudaStreamSynchronize(stream_), "wait for the device"); }

private:
  static constexpr Index counter_count = 1 << 14;

  Queue(int multiprocessors, bool with_side) : multiprocessors_(multiprocessors) {
    const auto device = hold_device();
    int device_index = 0;
    check(cudaGetDevice(&device_index), "ask which device is used");
    check(cudaDeviceGetAttribute(&shared_memory_per_block_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_index),
          "ask for the size of shared memory");
    int last = 0;
    int first = 0;
    check(cudaDeviceGetStreamPriorityRange(&last, &first), "ask for the priorities of streams");
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, with_side ? first : last), "create a stream");
    check(cudaEventCreateWithFlags(&reached_, cudaEventDisableTiming), "create an event");
    check(cublasLtCreate(&products_), "start cuBLASLt");
    counters_ = Buffer<int>(counter_count, "counters");
    check(cudaMemsetAsync(counters_.data(), 0, counters_.bytes(), stream_), "clear counters");
    if (with_side) side_.reset(new Queue(multiprocessors, false));
  }

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
    void allocate() {
      if (memory_.size() < demand_) memory_ = Buffer<std::byte>(demand_, "the kernels' workspace");
    }

  private:
    Buffer<std::byte> memory_;
    Index used_ = 0;
    Index demand_ = 0;
  };
  struct Reserved {
    Bytes bytes;
    bool written;
  };
  struct Table {
    std::array<double, 4> key;
    Buffer<std::byte> memory;
  };

  template <class T>
  DeferredGradients<T>& deferred() {
    if constexpr (std::is_same_v<T, float>)
      return exact_deferred_;
    else
      return deferred_;
  }
  template <class T>
  void start_all(DeferredGradients<T>& d) {
    if (d.gradients.empty()) return;
    release();
    d.start(*this, d);
    d.gradients.clear();
  }
  void start_own() {
    start_all(deferred_);
    start_all(exact_deferred_);
  }

  template <class... Parameters>
  void launch_converted(std::string_view what, const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                        Parameters... parameters) {
    void* addresses[] = {static_cast<void*>(&parameters)..., nullptr};
    launch_kernel(what, kernel, grid, block, shared_bytes, addresses);
  }

  int multiprocessors_;
  int shared_memory_per_block_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t reached_ = nullptr;
  cublasLtHandle_t products_ = nullptr;
  std::unique_ptr<Queue> side_;
  std::vector<Reserved> reserved_;
  DeferredGradients<BFloat16> deferred_;
  DeferredGradients<float> exact_deferred_;
  bool defers_ = true;
  Buffer<int> counters_;
  Workspace workspace_;
  Workspace handed_;
  bool rehearsing_ = false;
  std::vector<Table> tables_;
};

}  // namespace mad::cuda
