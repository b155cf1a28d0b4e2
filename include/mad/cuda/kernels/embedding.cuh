// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Token embedding, position table and class token, and their gradients.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/row_grid.cuh>
#include <mad/cuda/products/row_sum.cuh>

#include <algorithm>
#include <climits>
#include <cstdint>

namespace mad::cuda {

/// The id of the class token, a row of its own: it is no token of the vocabulary and has no position.
inline constexpr int class_token = -1;

/// Ids (batch, length) as they lie in memory. Whoever else has ids for the embedding forward gives them in the same
/// way, and may do something by the way: all threads of its kernel call `begin`.
struct GivenIds {
  const int* ids;

  __device__ void begin() const {}
  __device__ int of(unsigned token, bool) const { return ids[token]; }
};

namespace embedding_detail {

/// N columns of a token per thread.
template <int N, class Ids, class T>
__global__ void __launch_bounds__(RowGrid::threads)
    forward(const __grid_constant__ Ids ids, const float* table, const float* positions, const float* class_row, T* out,
            unsigned chunks, unsigned length, unsigned tokens) {
  ids.begin();
  const unsigned token = RowGrid::row();
  const unsigned chunk = RowGrid::chunk();
  if (token >= tokens || chunk >= chunks) return;
  const std::size_t width = std::size_t{chunks} * N;
  const unsigned column = chunk * N;
  const int id = ids.of(token, chunk == 0);
  const bool is_class = id == class_token;
  float x[N];
  load((is_class ? class_row : table + id * width) + column, x);
  if (positions != nullptr && !is_class) {
    float position[N];
    load(positions + token % length * width + column, position);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] += position[i];
  }
  store(out + token * width + column, x);
}

// The gradient of the table is a product with a matrix of zeros and ones, H[id, token] = (ids[token] == id), which is
// exact on the tensor cores: a float is the sum of three bfloat16 numbers, cut off rather than rounded.

inline constexpr int warps = 4;
inline constexpr int lane_columns = 8;
inline constexpr int tile_columns = 8 * lane_columns;
inline constexpr int tile_ids = 32;
inline constexpr int step = 16;        ///< tokens that a warp takes at a time
inline constexpr int no_id = INT_MIN;  ///< of a token that is not there

__device__ inline std::uint32_t bits(float x) { return __float_as_uint(x); }
/// The leading bfloat16 of two numbers.
__device__ inline std::uint32_t leading(float low, float high) { return bits(low) >> 16 | (bits(high) & 0xffff0000u); }
__device__ inline std::uint32_t ones(bool low, bool high) { return (low ? 0x3f80u : 0u) | (high ? 0x3f800000u : 0u); }

/// partial[share, id, c] = sum of d_out[token, c] over the share's tokens with that id. Grid: (shares, tiles of
/// columns, tiles of ids). `Whole`: a lane's columns can be read at once.
template <bool Whole, class T>
__global__ void __launch_bounds__(warps * 32) backward(const int* ids, const T* d_out, float* partial, unsigned tokens,
                                                       unsigned share, int vocabulary, int width) {
  constexpr int parts = sizeof(T) == sizeof(float) ? 3 : 1;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = static_cast<int>(threadIdx.x) % 32 / 4;  // of a left factor; column of a right one
  const int place = static_cast<int>(threadIdx.x) % 4;     // of the lane's tokens, 4 neighbours
  const int first_column = static_cast<int>(blockIdx.y) * tile_columns;
  const int first_id = static_cast<int>(blockIdx.z) * tile_ids;
  const int column = first_column + row * lane_columns;
  const bool second = first_id + 16 < vocabulary;
  tensor::Sums sums[2][lane_columns]{};
  const unsigned end = min((blockIdx.x + 1) * share, tokens);
  constexpr int rounds = Whole ? 2 : 1;  // rows of odd widths are too rare for twice the code
#pragma unroll rounds
  for (unsigned t = blockIdx.x * share + warp * step; t < end; t += warps * step) {
    float x[4][lane_columns];
    int id[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const unsigned token = min(t + place * 4 + k, end - 1);
      id[k] = t + place * 4 + k < end ? ids[token] - first_id : no_id;
      const T* from = d_out + std::size_t{token} * width;
      if constexpr (Whole) {
        load(from + min(column, width - lane_columns), x[k]);
      } else {
#pragma unroll
        for (int j = 0; j < lane_columns; ++j) x[k][j] = to_float(from[min(column + j, width - 1)]);
      }
    }
    tensor::Left<16> hits[2];
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const int of = row + p % 2 * 8;
      const int k = p / 2 * 2;
      hits[0].part[p] = ones(id[k] == of, id[k + 1] == of);
      hits[1].part[p] = ones(id[k] == of + 16, id[k + 1] == of + 16);
    }
#pragma unroll
    for (int part = 0; part < parts; ++part) {
#pragma unroll
      for (int j = 0; j < lane_columns; ++j) {
        const tensor::Right<16> right{leading(x[0][j], x[1][j]), leading(x[2][j], x[3][j])};
        multiply_add(sums[0][j], hits[0], right);
        if (second) multiply_add(sums[1][j], hits[1], right);
        if (part + 1 < parts) {
#pragma unroll
          for (int k = 0; k < 4; ++k) x[k][j] -= __uint_as_float(bits(x[k][j]) & 0xffff0000u);
        }
      }
    }
  }
  __shared__ float of_warp[warps][tile_ids][tile_columns + 2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (i == 1 && !second) break;
#pragma unroll
    for (int j = 0; j < lane_columns; ++j) {
#pragma unroll
      for (int v = 0; v < 4; ++v)
        of_warp[warp][i * 16 + v / 2 * 8 + row][(2 * place + v % 2) * lane_columns + j] = sums[i][j].value[v];
    }
  }
  __syncthreads();
  const int count = min(tile_ids, vocabulary - first_id) * tile_columns;
#pragma unroll 4
  for (int e = static_cast<int>(threadIdx.x); e < count; e += warps * 32) {
    const int c = e % tile_columns;
    if (first_column + c >= width) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) sum += of_warp[w][e / tile_columns][c];
    partial[(std::size_t{blockIdx.x} * vocabulary + first_id + e / tile_columns) * width + first_column + c] = sum;
  }
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
template <class Ids, class T>
void embedding_forward(Queue& queue, const Shape& shape, const Ids& ids, const EmbeddingTables<const float>& tables,
                       Index width, T* out) {
  namespace d = embedding_detail;
  const auto launch = [&](auto kernel, Index chunks) {
    const RowGrid grid(shape.tokens(), chunks);
    queue.launch("the embedding", kernel, grid.blocks, grid.block, 0, ids, tables.tokens, tables.positions,
                 tables.class_row, out, chunks, shape.length, shape.tokens());
  };
  constexpr Index whole = 16 / sizeof(T);  // tables and values begin at multiples of 256 bytes
  if (width % whole == 0)
    launch(d::forward<whole, Ids, T>, width / whole);
  else
    launch(d::forward<1, Ids, T>, width);
}

/// Adds the gradients of the tables, those that are there.
template <class T>
void embedding_backward(Queue& queue, const Shape& shape, const int* ids, const T* d_out, Index vocabulary, Index width,
                        const EmbeddingTables<float>& gradients) {
  namespace d = embedding_detail;
  const Index tokens = shape.tokens();
  const Index column_tiles = (width + d::tile_columns - 1) / d::tile_columns;
  const Index id_tiles = (vocabulary + d::tile_ids - 1) / d::tile_ids;
  // A warp reads what it can hold at once, unless that gives too many blocks or sums.
  constexpr Index least = 2 * d::warps * d::step;
  const Index most =
      std::max<Index>(16, std::min<Index>(4 * queue.multiprocessors() / (column_tiles * id_tiles), 8192 / vocabulary));
  const Index some = std::clamp<Index>((tokens + least - 1) / least, 1, most);
  const Index share = (tokens + some * least - 1) / (some * least) * least;
  const Index shares = (tokens + share - 1) / share;
  float* partial = queue.take<float>(shares * vocabulary * width);
  queue.launch(
      "the gradient of the embedding", width % d::lane_columns == 0 ? d::backward<true, T> : d::backward<false, T>,
      dim3(static_cast<unsigned>(shares), static_cast<unsigned>(column_tiles), static_cast<unsigned>(id_tiles)),
      dim3(d::warps * 32), 0, ids, d_out, partial, tokens, share, vocabulary, width);
  add_row_sums<float>(queue, {partial, vocabulary * width}, shares, vocabulary * width, gradients.tokens);
  // A position's gradient, and the class token's, is a sum over the batch.
  const Index positions = shape.length - (gradients.class_row != nullptr ? 1 : 0);
  if (gradients.positions != nullptr)
    add_row_sums<T>(queue, {d_out, shape.length * width}, shape.batch, positions * width, gradients.positions);
  if (gradients.class_row != nullptr)
    add_row_sums<T>(queue, {d_out + positions * width, shape.length * width}, shape.batch, width, gradients.class_row);
}

}  // namespace mad::cuda
