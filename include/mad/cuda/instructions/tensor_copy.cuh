// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The bulk tensor copy engine, for code for compute capability 9.0: one thread asks for a box of a matrix
/// (tensor_map.hpp), which comes to shared memory or leaves it by itself. Barriers count the bytes that have come.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace mad::cuda {

/// An mbarrier in shared memory, known by its address there. A phase ends when all have arrived and all bytes that were
/// announced have come; phases have parity 0 and 1 in turn.
class TransferBarrier {
public:
  static constexpr int size = 8;  ///< bytes, of which its address is a multiple

  __device__ explicit TransferBarrier(std::uint32_t address) : address_(address) {}
  __device__ std::uint32_t address() const { return address_; }

  /// One thread does this, before `show_barriers`.
  __device__ void start(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(address_), "r"(arrivals) : "memory");
  }
  /// Arrives, and announces bytes that end the phase when they have come.
  __device__ void arrive_and_expect(int bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" : : "r"(address_), "r"(bytes) : "memory");
  }
  __device__ void arrive() const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" : : "r"(address_) : "memory");
  }
  /// Waits for the end of the phase of this parity.
  __device__ void wait(int parity) const {
    std::uint32_t done;
    do {
      asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                   : "=r"(done)
                   : "r"(address_), "r"(parity)
                   : "memory");
    } while (done == 0);
  }

private:
  std::uint32_t address_;
};

/// Barriers that this thread has started are seen by copies, and by who waits for the block behind this.
__device__ inline void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory"); }

/// Starts to copy the map's box at (\p row, \p column) to shared memory; the barrier gets the bytes.
__device__ inline void copy_box(std::uint32_t shared, const CUtensorMap& map, int row, int column,
                                TransferBarrier barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
               :
               : "r"(shared), "l"(&map), "r"(column), "r"(row), "r"(barrier.address())
               : "memory");
}

/// What this thread has written to shared memory is seen by copies that are asked for behind the next barrier.
__device__ inline void show_to_copies() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }
/// Starts to copy a box from shared memory to the map's matrix; what lies outside of that is left out.
__device__ inline void store_box(std::uint32_t shared, const CUtensorMap& map, int row, int column) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
               :
               : "l"(&map), "r"(column), "r"(row), "r"(shared)
               : "memory");
}
/// Ends a group of such copies.
__device__ inline void commit_boxes() { asm volatile("cp.async.bulk.commit_group;" : : : "memory"); }
/// Waits until this thread's copies have read shared memory.
__device__ inline void wait_for_boxes_to_be_read() { asm volatile("cp.async.bulk.wait_group.read 0;" : : : "memory"); }

}  // namespace mad::cuda
