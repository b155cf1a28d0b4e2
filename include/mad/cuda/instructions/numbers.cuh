// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The number types of the device, and how kernels read and write them: arithmetic is in float whatever is stored.
#pragma once

#include <mad/cuda/device/precision.hpp>

namespace mad::cuda {

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(BFloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ inline T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(float))
    return x;
  else
    return __float2bfloat16_rn(x);
}

/// What kernels do to their results, number by number, where nothing else is asked for.
struct AsItIs {
  static __device__ float apply(float x) { return x; }
};

/// N neighbouring numbers that are read or written at once; N sizeof(T) is a power of two of at most 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Chunk {
  T value[N];
};

template <int N, class T>
__device__ inline void load(const T* from, float (&x)[N]) {
  if constexpr (N * sizeof(T) > 16) {
    load(from, reinterpret_cast<float(&)[N / 2]>(x[0]));
    load(from + N / 2, reinterpret_cast<float(&)[N / 2]>(x[N / 2]));
  } else {
    const Chunk<T, N> chunk = *reinterpret_cast<const Chunk<T, N>*>(from);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = to_float(chunk.value[i]);
  }
}

template <int N, class T>
__device__ inline void store(T* to, const float (&x)[N]) {
  if constexpr (N * sizeof(T) > 16) {
    store(to, reinterpret_cast<const float(&)[N / 2]>(x[0]));
    store(to + N / 2, reinterpret_cast<const float(&)[N / 2]>(x[N / 2]));
  } else {
    Chunk<T, N> chunk;
#pragma unroll
    for (int i = 0; i < N; ++i) chunk.value[i] = from_float<T>(x[i]);
    *reinterpret_cast<Chunk<T, N>*>(to) = chunk;
  }
}

/// The sum over `Lanes` neighbouring lanes of a warp, in all of them; always added in the same order.
template <int Lanes, class X>
__device__ inline X lane_sum(X x) {
#pragma unroll
  for (int offset = Lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

/// True in every thread of the block that is the last of \p blocks to come here; its threads see all that the others
/// wrote before. Sums of partial results stay in a fixed order this way, whichever block is last. \p counter is 0
/// before and after.
__device__ inline bool is_last_block(int* counter, int blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    last = atomicAdd(counter, 1) == blocks - 1;
    if (last) *counter = 0;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace mad::cuda
