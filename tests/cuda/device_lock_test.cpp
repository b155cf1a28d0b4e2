// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda/device/device_lock.hpp>

#include "catch.hpp"

#include <algorithm>
#include <thread>
#include <vector>

namespace mad::cuda {

TEST_CASE("one thread at a time holds the device, as often as it likes") {
  int holders = 0;
  int most = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        const auto device = hold_device();
        const auto again = hold_device();  // memory is allocated while a graph is recorded, or told that it may not be
        most = std::max(most, ++holders);
        std::this_thread::yield();
        --holders;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(most == 1);
  CHECK(holders == 0);
}

}  // namespace mad::cuda
