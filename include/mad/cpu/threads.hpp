// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Threads that wait for work between steps.
#pragma once

#include <mad/core/function_view.hpp>
#include <mad/core/shape.hpp>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mad::cpu {

/// A fixed number of threads, the caller's among them. What runs where is left to chance, so work must not depend on
/// it: each task writes to memory of its own.
class Threads {
public:
  /// `count` threads; 0: as many as the machine runs at once.
  explicit Threads(int count = 0) {
    const int hardware = static_cast<int>(std::thread::hardware_concurrency());
    count_ = count > 0 ? count : hardware > 0 ? hardware : 1;
    for (int i = 1; i < count_; ++i) workers_.emplace_back([this, i] { wait_for_work(i); });
  }
  ~Threads() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      ++round_;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return count_; }

  /// Calls `body(task, thread)` for task = 0 .. tasks-1, `thread` in [0, count()). Returns when all are done; the first
  /// exception of a task is thrown again here, tasks not yet begun are then skipped.
  void run(Index tasks, FunctionView<void(Index task, int thread)> body) {
    if (count_ == 1 || tasks <= 1) {
      for (Index i = 0; i < tasks; ++i) body(i, 0);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      body_ = &body;
      tasks_ = tasks;
      next_.store(0, std::memory_order_relaxed);
      busy_ = count_ - 1;
      error_ = nullptr;
      ++round_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

private:
  void work(int thread) {
    for (Index i = next_.fetch_add(1); i < tasks_; i = next_.fetch_add(1)) {
      try {
        (*body_)(i, thread);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        next_.store(tasks_);
      }
    }
  }

  void wait_for_work(int thread) {
    std::size_t seen = 0;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        if (closing_) return;
      }
      work(thread);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  int count_ = 1;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  const FunctionView<void(Index, int)>* body_ = nullptr;
  std::atomic<Index> next_{0};
  Index tasks_ = 0;
  int busy_ = 0;
  std::size_t round_ = 0;
  bool closing_ = false;
  std::exception_ptr error_;
};

}  // namespace mad::cpu
