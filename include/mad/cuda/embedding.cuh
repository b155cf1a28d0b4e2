// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Token embedding and position table: rows by id, and their gradients.
#pragma once

#include <mad/cuda/row_sum.cuh>

namespace mad::cuda {

namespace embedding_detail {

inline constexpr int threads = 128;
inline constexpr int ids_at_once = 16;  ///< rows of the table whose gradient a block keeps in shared memory

/// Grid: tokens. The thread's columns follow each other at steps of the block's size.
template <class T>
__global__ void __launch_bounds__(threads) forward(const int* ids, const float* table, const float* positions, T* out,
                                                   int width, int length) {
  const std::size_t token = blockIdx.x;
  const float* row = table + static_cast<std::size_t>(ids[token]) * width;
  for (int c = static_cast<int>(threadIdx.x); c < width; c += threads) {
    float x = row[c];
    if (positions != nullptr) x += positions[token % length * width + c];
    out[token * width + c] = from_float<T>(x);
  }
}

/// partial[chunk, id, c] = sum of d_out[token, c] over the chunk's tokens with that id, in their order. Grid: (chunks,
/// groups of ids).
template <class T>
__global__ void __launch_bounds__(threads) backward(const int* ids, const T* d_out, float* partial, unsigned tokens,
                                                    unsigned per_chunk, int vocabulary, int width) {
  extern __shared__ float sums[];  // (ids_at_once, width); a thread touches its own columns only
  const int first_id = static_cast<int>(blockIdx.y) * ids_at_once;
  const int count = min(ids_at_once, vocabulary - first_id);
  for (int i = static_cast<int>(threadIdx.x); i < width; i += threads)
    for (int id = 0; id < count; ++id) sums[id * width + i] = 0;
  const unsigned begin = blockIdx.x * per_chunk;
  const unsigned end = min(begin + per_chunk, tokens);
  for (int c = static_cast<int>(threadIdx.x); c < width; c += threads) {
#pragma unroll 8
    for (unsigned t = begin; t < end; ++t) {
      const int id = ids[t] - first_id;
      const float x = to_float(d_out[std::size_t{t} * width + c]);
      if (id >= 0 && id < count) sums[id * width + c] += x;
    }
    for (int id = 0; id < count; ++id)
      partial[(std::size_t{blockIdx.x} * vocabulary + first_id + id) * width + c] = sums[id * width + c];
  }
}

/// d_positions[t, c] += sum over the batch of d_out[b, t, c].
template <class T>
__global__ void __launch_bounds__(threads) add_over_batch(const T* d_out, float* d_positions, int batch,
                                                          unsigned elements) {
  const unsigned index = blockIdx.x * threads + threadIdx.x;
  if (index >= elements) return;
  float sum = 0;
  for (int b = 0; b < batch; ++b) sum += to_float(d_out[static_cast<std::size_t>(b) * elements + index]);
  d_positions[index] += sum;
}

}  // namespace embedding_detail

/// out[token] = table[ids[token]] + positions[position]; ids (batch, length), out (tokens, width). No positions where
/// null.
template <class T>
void embedding_forward(Queue& queue, const Shape& shape, const int* ids, const float* table, const float* positions,
                       Index width, T* out) {
  namespace d = embedding_detail;
  queue.launch("the embedding", d::forward<T>, dim3(static_cast<unsigned>(shape.tokens())), dim3(d::threads), 0, ids,
               table, positions, out, width, shape.length);
}

/// d_table[ids[token]] += d_out[token], and d_positions[position] += d_out[token] unless null.
template <class T>
void embedding_backward(Queue& queue, const Shape& shape, const int* ids, const T* d_out, Index vocabulary, Index width,
                        float* d_table, float* d_positions) {
  namespace d = embedding_detail;
  const Index most = std::max<Index>(16, 8192 / vocabulary);
  const Index chunks = std::clamp<Index>(shape.tokens() / 32, 1, most);
  const Index per_chunk = (shape.tokens() + chunks - 1) / chunks;
  float* partial = queue.take<float>(chunks * vocabulary * width);
  const dim3 grid(static_cast<unsigned>(chunks),
                  static_cast<unsigned>((vocabulary + d::ids_at_once - 1) / d::ids_at_once));
  queue.launch("the gradient of the embedding", d::backward<T>, grid, dim3(d::threads),
               sizeof(float) * d::ids_at_once * static_cast<std::size_t>(width), ids, d_out, partial, shape.tokens(),
               per_chunk, vocabulary, width);
  add_row_sums<float>(queue, {partial, vocabulary * width}, chunks, vocabulary * width, d_table);
  if (d_positions != nullptr) {
    const Index elements = shape.length * width;
    queue.launch("the gradient of the positions", d::add_over_batch<T>,
                 dim3(static_cast<unsigned>((elements + d::threads - 1) / d::threads)), dim3(d::threads), 0, d_out,
                 d_positions, shape.batch, elements);
  }
}

}  // namespace mad::cuda
