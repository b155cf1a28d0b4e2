// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The order in which one model's work reaches the device: a stream, the memory kernels need while they run, and the
/// rehearsal that finds out how much that is.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/memory.hpp>
#include <mad/cuda/device/weight_gradient.hpp>
#include <mad/cuda/device/workspace.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <type_traits>
#include <utility>
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
  explicit Queue(int multiprocessors) : Queue(multiprocessors, Rank::first) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() {
    const auto device = hold_device();
    cublasLtDestroy(products_);
    cudaEventDestroy(reached_);
    cudaEventDestroy(accumulated_);
    for (cudaEvent_t mark : marks_)
      if (mark != nullptr) cudaEventDestroy(mark);
    cudaStreamDestroy(stream_);
  }

  /// A second queue for work that need not keep the first one waiting. It is rehearsed with it.
  Queue& side() { return *side_; }
  /// A third queue, for what parameters alone determine and for the gradients of that: many small kernels, which come
  /// before all others where there is room. What comes next in it waits for all that is in this one by now.
  Queue& begin_for_parameters() {
    if (side_ == nullptr) return *this;
    if (for_parameters_ == nullptr) {
      for_parameters_.reset(new Queue(multiprocessors_, Rank::small));
      for_parameters_->rehearsing_ = rehearsing_;
    }
    for_parameters_in_use_ = true;
    for_parameters_->wait_for(*this);
    return *for_parameters_;
  }
  /// The same queue once more, for work that needs to wait for nothing else.
  Queue& for_parameters() { return for_parameters_ != nullptr ? *for_parameters_ : *this; }
  /// What comes next in this queue waits for all that is in the queue for parameters.
  void wait_for_parameters() {
    if (std::exchange(for_parameters_in_use_, false)) wait_for(*for_parameters_);
  }
  /// The side queue, for work that waits for all that is in this one by now. A side queue's is itself.
  Queue& begin_aside() {
    if (side_ == nullptr) return *this;
    side_->mark_accumulated();
    side_->wait_for(*this);
    side_->release();
    return *side_;
  }
  /// Notes that what was put into this side queue last adds to what an epilogue reads.
  void accumulates() { accumulates_ = true; }
  /// What comes next in this queue waits for all of that which a side queue has by now, and for nothing else there.
  void wait_for_accumulated(Queue& side) {
    if (side.deferred_.accumulate || side.exact_deferred_.accumulate) side.start_own();
    side.mark_accumulated();
    if (!std::exchange(side.has_accumulated_, false) || rehearsing_) return;
    check(cudaStreamWaitEvent(stream_, side.accumulated_, 0), "wait for a place in another stream");
  }
  /// Gradients of weights and biases, sums over \p rows rows, that are deferred: `start` is to start them all together,
  /// before anything waits for this queue and at the latest when `start_deferred` is called.
  template <class T>
  std::vector<WeightGradientOf<T>>& defer(Index rows, void (*start)(Queue&, const DeferredGradients<T>&)) {
    DeferredGradients<T>& d = deferred<T>();
    const bool accumulates = accumulates_;
    if (rows != d.rows) start_all(d);
    d.accumulate = d.accumulate || accumulates;
    d.rows = rows;
    d.start = start;
    return d.gradients;
  }
  /// Starts what was deferred here and in the side queue.
  void start_deferred() {
    start_own();
    if (side_ != nullptr) side_->start_own();
  }

  /// Matrix products that are put off until others have come along or something needs them: what goes into a queue
  /// before them must have nothing to do with what they read and write. Null in a side queue, which puts nothing off.
  PutOffProducts* put_off() { return side_ != nullptr ? &put_off_ : nullptr; }
  /// Starts them.
  void start_products() {
    if (put_off_.empty()) return;
    release();
    put_off_.start(*this, put_off_);
    put_off_.clear();
    release();
  }

  /// What comes next in this queue waits for all that is in the other by now.
  void wait_for(Queue& other) {
    other.start_own();
    if (&other == side_.get()) {
      wait_for_group(group_ - 1);  // which may be in the queue for parameters
      reserved_.clear();
      side_->accumulates_ = side_->has_accumulated_ = false;  // all that waits for this queue waits for it, too
      for (Handed& h : handed_) h.memory.release();
    }
    if (rehearsing_) return;
    check(cudaEventRecord(other.reached_, other.stream_), "mark a place in a stream");
    check(cudaStreamWaitEvent(stream_, other.reached_, 0), "wait for another stream");
  }

  /// Ends a group of work in the side queue, such as a layer's: from now on this queue can wait for it without waiting
  /// for what comes after it there.
  void end_group_aside() {
    if (side_ != nullptr) end_group(*side_);
  }
  /// The same for a group that is in the queue for parameters, and there alone.
  void end_group_for_parameters() {
    if (side_ != nullptr) end_group(for_parameters());
  }
  /// The group of the work that is put into the side queue now.
  int group() const { return group_; }
  /// What comes next in this queue waits for the groups up to this one. For the present group that is all there is.
  void wait_for_group(int group) {
    if (group == group_) return wait_for(*side_);
    for (; waited_ < group; ++waited_)
      if (!rehearsing_) check(cudaStreamWaitEvent(stream_, mark_of(waited_ + 1), 0), "wait for another stream");
    std::erase_if(reserved_, [&](const Reserved& r) { return r.group <= group; });
  }

  /// Notes memory that work in the side queue reads, or else writes, until this queue has waited for it.
  void reserve_aside(Bytes bytes, bool written) {
    if (side_ != nullptr) reserved_.push_back({bytes, written, group_});
  }
  bool has_reserved() const { return !reserved_.empty(); }
  /// The last group of the side queue that may still write \p bytes, or read them where they are to be written; -1 if
  /// there is none.
  int reserving_group(Bytes bytes, bool to_write) const {
    int last = -1;
    for (const Reserved& r : reserved_)
      if ((to_write || r.written) && bytes.begin < r.bytes.end && r.bytes.begin < bytes.end)
        last = std::max(last, r.group);
    return last;
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
    if (for_parameters_ != nullptr) for_parameters_->begin_rehearsal();
  }
  /// Drops what a recording that failed has left: gradients and products that were to come, and memory that was noted.
  void forget() {
    put_off_.clear();
    deferred_ = {};
    exact_deferred_ = {};
    reserved_.clear();
    group_ = 0;
    waited_ = -1;
    for (Handed& h : handed_) {
      h.group = -1;
      h.memory.release();
    }
    accumulates_ = has_accumulated_ = false;
    for_parameters_in_use_ = false;
    if (side_ != nullptr) side_->forget();
    if (for_parameters_ != nullptr) for_parameters_->forget();
  }
  void allocate_workspace() {
    rehearsing_ = false;
    if (side_ != nullptr) side_->allocate_workspace();
    if (for_parameters_ != nullptr) for_parameters_->allocate_workspace();
    workspace_.allocate();
    // A group finds its turn taken by another one when passes are recorded in another order.
    handed_[0].memory.want(handed_[1].memory.demand());
    handed_[1].memory.want(handed_[0].memory.demand());
    for (Handed& h : handed_) h.memory.allocate();
  }

  /// Gives the workspace back: the next kernel may use it, being later on the same stream.
  void release() { workspace_.release(); }
  /// Memory until the next `release`, aligned to 256 bytes. A null pointer in the rehearsal.
  template <class T>
  T* take(Index count) {
    return workspace_.take<T>(count, rehearsing_);
  }
  /// Memory that is written here and read aside: it lasts until this queue has waited for the present group there.
  template <class T>
  T* take_for_aside(Index count) {
    if (side_ == nullptr) return take<T>(count);
    Handed& handed = handed_[static_cast<std::size_t>(group_) % handed_.size()];
    if (handed.group != group_) {
      wait_for_group(handed.group);
      handed.memory.release();
      handed.group = group_;
    }
    return handed.memory.take<T>(count, rehearsing_);
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

  /// What the device has of a kernel: limits of its threads and memory, which differ with the architecture that it was
  /// compiled for.
  static cudaFuncAttributes facts_of(const void* kernel, std::string_view what) {
    cudaFuncAttributes facts{};
    check(cudaFuncGetAttributes(&facts, kernel), "ask how to launch " + std::string(what));
    return facts;
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
    if (shared_bytes > 32 * 1024) {  // less is given unasked, with any static memory
      const cudaFuncAttributes facts = facts_of(kernel, what);
      const auto wanted = static_cast<int>(shared_bytes);
      // A limit is never lowered: steps that are recorded may rely on it.
      if (wanted + static_cast<int>(facts.sharedSizeBytes) > facts.maxDynamicSharedSizeBytes)
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   std::max(wanted, facts.maxDynamicSharedSizeBytes)),
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

  enum class Rank { first, aside, small };

  Queue(int multiprocessors, Rank rank) : multiprocessors_(multiprocessors) {
    const auto device = hold_device();
    int device_index = 0;
    check(cudaGetDevice(&device_index), "ask which device is used");
    check(cudaDeviceGetAttribute(&shared_memory_per_block_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_index),
          "ask for the size of shared memory");
    int last = 0;
    int first = 0;
    check(cudaDeviceGetStreamPriorityRange(&last, &first), "ask for the priorities of streams");
    const int middle = last - first > 1 ? first + 1 : first;  // the smaller, the sooner
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                       rank == Rank::first   ? middle
                                       : rank == Rank::aside ? last
                                                             : first),
          "create a stream");
    check(cudaEventCreateWithFlags(&reached_, cudaEventDisableTiming), "create an event");
    check(cudaEventCreateWithFlags(&accumulated_, cudaEventDisableTiming), "create an event");
    check(cublasLtCreate(&products_), "start cuBLASLt");
    counters_ = Buffer<int>(counter_count, "counters");
    check(cudaMemsetAsync(counters_.data(), 0, counters_.bytes(), stream_), "clear counters");
    if (rank != Rank::first) return;
    for (cudaEvent_t& mark : marks_) check(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming), "create an event");
    side_.reset(new Queue(multiprocessors, Rank::aside));
  }

  struct Reserved {
    Bytes bytes;
    bool written;
    int group;
  };
  /// Groups take turns with two of these.
  struct Handed {
    Workspace memory;
    int group = -1;
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
  void mark_accumulated() {
    if (!std::exchange(accumulates_, false)) return;
    has_accumulated_ = true;
    if (!rehearsing_) check(cudaEventRecord(accumulated_, stream_), "mark a place in a stream");
  }
  void end_group(Queue& of) {
    of.start_own();
    if (!rehearsing_) check(cudaEventRecord(mark_of(group_), of.stream_), "mark a place in a stream");
    ++group_;
    // Its mark is about to be used for the new group.
    wait_for_group(group_ - static_cast<int>(marks_.size()));
  }
  template <class T>
  void start_all(DeferredGradients<T>& d) {
    if (d.gradients.empty()) return;
    mark_accumulated();
    release();
    d.start(*this, d);
    d.gradients.clear();
    accumulates_ = std::exchange(d.accumulate, false);
  }
  void start_own() {
    start_all(deferred_);
    start_all(exact_deferred_);
  }

  cudaEvent_t mark_of(int group) const { return marks_[static_cast<std::size_t>(group) % marks_.size()]; }

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
  cudaEvent_t accumulated_ = nullptr;
  bool accumulates_ = false;
  bool has_accumulated_ = false;        ///< `accumulated_` is marked, and nothing has waited for it
  std::array<cudaEvent_t, 4> marks_{};  ///< ends of the last groups aside
  int group_ = 0;
  int waited_ = -1;  ///< the last group that this queue has waited for
  cublasLtHandle_t products_ = nullptr;
  std::unique_ptr<Queue> side_;
  std::unique_ptr<Queue> for_parameters_;
  bool for_parameters_in_use_ = false;
  std::vector<Reserved> reserved_;
  DeferredGradients<BFloat16> deferred_;
  DeferredGradients<float> exact_deferred_;
  PutOffProducts put_off_;
  Buffer<int> counters_;
  Workspace workspace_;
  std::array<Handed, 2> handed_;
  bool rehearsing_ = false;
  std::vector<Table> tables_;
};

}  // namespace mad::cuda
