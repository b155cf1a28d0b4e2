// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Copies from global to shared memory that run while the thread goes on.
#pragma once

#include <mad/cuda/instructions/numbers.cuh>

#include <cstdint>

namespace mad::cuda {

/// Copies N neighbouring numbers; at once where they are fewer than 16 bytes. The thread itself sees them after
/// `wait_for_copies`, others after a barrier behind that.
template <int N, class T>
__device__ inline void copy_async(T* shared, const T* global) {
  if constexpr (N * sizeof(T) == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))), "l"(global)
                 : "memory");
  else
    *reinterpret_cast<Chunk<T, N>*>(shared) = *reinterpret_cast<const Chunk<T, N>*>(global);
}

/// The same for rows whose next pieces other warps copy: has memory give the second-level cache 256 bytes at once.
template <int N, class T>
__device__ inline void copy_async_beside_others(T* shared, const T* global) {
  if constexpr (N * sizeof(T) == 16)
    asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16;"
                 :
                 : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))), "l"(global)
                 : "memory");
  else
    copy_async<N>(shared, global);
}

/// Copies 16 bytes between places that are constant numbers of bytes behind the pointers: several copies share these.
template <int Behind, int BehindGlobal, class T>
__device__ inline void copy_async_behind(T* shared, const T* global) {
  asm volatile("cp.async.cg.shared.global [%0+%2], [%1+%3], 16;"
               :
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))), "l"(global), "n"(Behind),
                 "n"(BehindGlobal)
               : "memory");
}

/// Copies 16 bytes, or puts zeros there and reads nothing; seen as with `copy_async`.
__device__ inline void copy_or_clear_async(void* shared, const void* global, bool here) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))), "l"(global), "r"(here ? 16 : 0)
               : "memory");
}

/// Ends a group of copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }
/// Waits until at most the last `Groups` groups of this thread's copies are under way.
template <int Groups>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(Groups) : "memory");
}

}  // namespace mad::cuda
