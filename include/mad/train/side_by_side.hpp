// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Several runs at the same time, each on a thread of its own: how a sweep fills a device that one run leaves idle.
#pragma once

#include <mad/core/shape.hpp>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mad::train {

/// Calls `work(i)` for i = 0, 1, ... count - 1, begun in this order, at most `at_once` at a time; one at a time happens
/// on the caller's thread. What returns false lets no more begin. An exception does so too and is thrown again, the
/// first of several, when all that had begun has ended.
template <class Work>
void side_by_side(Index count, Index at_once, const Work& work) {
  std::mutex mutex;
  Index next = 0;
  std::exception_ptr failure;
  const auto take_turns = [&] {
    for (;;) {
      Index mine = 0;
      {
        const std::lock_guard lock(mutex);
        if (next >= count) return;
        mine = next++;
      }
      bool go_on = false;
      std::exception_ptr thrown;
      try {
        go_on = work(mine);
      } catch (...) {
        thrown = std::current_exception();
      }
      const std::lock_guard lock(mutex);
      if (thrown != nullptr && failure == nullptr) failure = thrown;
      if (!go_on) next = count;
    }
  };
  std::vector<std::thread> others;
  for (Index i = 1; i < std::min(at_once, count); ++i) others.emplace_back(take_turns);
  take_turns();
  for (std::thread& other : others) other.join();
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace mad::train
