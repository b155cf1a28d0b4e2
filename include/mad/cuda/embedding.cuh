// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Token embedding, position table and class token, and their gradients.
#pragma once

#include <mad/cuda/row_sum.cuh>

#include <string_view>

namespace mad::cuda {

/// The id of the class token, a row of its own: it is no token of the vocabulary and has no position.
inline constexpr int class_token = -1;

namespace embedding_detail {

inline constexpr int threads = 128;
inline constexpr int ids_at_once = 16;  ///< rows of the table whose gradient a block keeps in shared memory

/// Grid: tokens. The thread's columns follow each other at steps of the block's size.
template <class T>
__global__ void __launch_bounds__(threads) forward(const int* ids, const float* table, const float* positions,
                                                   const float* class_row, T* out, int width, int length) {
  const std::size_t token = blockIdx.x;
  const int id = ids[token];
  const bool is_class = id == class_token;
  const float* row = is_class ? class_row : table + static_cast<std::size_t>(id) * width;
  for (int c = static_cast<int>(threadIdx.x); c < width; c += threads) {
    float x = row[c];
    if (positions != nullptr && !is_class) x += positions[token % length * width + c];
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

/// to[i] += sum over the batch of d_out[b, i], where sequences lie `stride` elements apart.
template <class T>
__global__ void __launch_bounds__(threads)
    add_over_batch(const T* d_out, std::size_t stride, float* to, int batch, unsigned elements) {
  const unsigned index = blockIdx.x * threads + threadIdx.x;
  if (index >= elements) return;
  float sum = 0;
  for (int b = 0; b < batch; ++b) sum += to_float(d_out[b * stride + index]);
  to[index] += sum;
}

}  // namespace embedding_detail

/// Tables that the embedding reads, and their gradients.
template <class F>
struct EmbeddingTables {
  F* tokens;
  F* positions;  ///< one row per position; null: none
  F* class_row;  ///< the last row of every sequence; null: none
};

/// out[token] = tokens[ids[token]] + positions[position], or the class row; ids (batch, length), out (tokens, width).
template <class T>
void embedding_forward(Queue& queue, const Shape& shape, const int* ids, const EmbeddingTables<const float>& tables,
                       Index width, T* out) {
  namespace d = embedding_detail;
  queue.launch("the embedding", d::forward<T>, dim3(static_cast<unsigned>(shape.tokens())), dim3(d::threads), 0, ids,
               tables.tokens, tables.positions, tables.class_row, out, width, shape.length);
}

/// Adds the gradients of the tables, those that are there.
template <class T>
void embedding_backward(Queue& queue, const Shape& shape, const int* ids, const T* d_out, Index vocabulary, Index width,
                        const EmbeddingTables<float>& gradients) {
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
  add_row_sums<float>(queue, {partial, vocabulary * width}, chunks, vocabulary * width, gradients.tokens);
  const Index tokens = shape.length - (gradients.class_row != nullptr ? 1 : 0);
  const auto add_over_batch = [&](std::string_view what, Index first_row, Index rows, float* to) {
    if (to == nullptr) return;
    queue.launch(what, d::add_over_batch<T>, dim3(static_cast<unsigned>((rows * width + d::threads - 1) / d::threads)),
                 dim3(d::threads), 0, d_out + first_row * width, shape.length * width, to, shape.batch, rows * width);
  };
  add_over_batch("the gradient of the positions", 0, tokens, gradients.positions);
  add_over_batch("the gradient of the class token", tokens, 1, gradients.class_row);
}

}  // namespace mad::cuda
