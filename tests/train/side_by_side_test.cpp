// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/side_by_side.hpp>

#include <atomic>
#include <catch.hpp>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace mad::train {

TEST_CASE("work side by side is done once each, whatever number at a time") {
  for (const Index at_once : {1, 3, 20}) {
    std::vector<std::atomic<int>> done(11);
    side_by_side(11, at_once, [&](Index i) {
      ++done[static_cast<std::size_t>(i)];
      return true;
    });
    for (const auto& times : done) CHECK(times == 1);
  }
}

TEST_CASE("one at a time is in order, on the caller's thread, and ends at the first refusal") {
  const auto caller = std::this_thread::get_id();
  std::vector<Index> order;
  side_by_side(5, 1, [&](Index i) {
    CHECK(std::this_thread::get_id() == caller);
    order.push_back(i);
    return i < 2;
  });
  CHECK(order == std::vector<Index>{0, 1, 2});
}

TEST_CASE("several at a time are under way together") {
  std::mutex mutex;
  std::condition_variable all_here;
  int here = 0;
  side_by_side(3, 3, [&](Index) {
    std::unique_lock lock(mutex);
    ++here;
    all_here.notify_all();
    return all_here.wait_for(lock, std::chrono::seconds(60), [&] { return here == 3; });
  });
  CHECK(here == 3);
}

TEST_CASE("an exception lets no more begin and reaches the caller when all have ended") {
  std::atomic<int> begun = 0;
  CHECK_THROWS_AS(side_by_side(100, 2,
                               [&](Index i) {
                                 ++begun;
                                 if (i == 1) throw std::runtime_error("one");
                                 while (begun < 2) std::this_thread::yield();
                                 return i == 0;
                               }),
                  std::runtime_error);
  CHECK(begun <= 3);
}

}  // namespace mad::train
