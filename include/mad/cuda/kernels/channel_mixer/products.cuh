// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The products of a channel mixer's kernel by single warps. `M` is the mixer (kernel.cuh). Parts of the weights
/// are in shared memory as they are stored, rows or columns of the inside; a warp multiplies 16 rows that lie in
/// registers.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/channel_mixer/rows.cuh>

#include <cstdint>
#include <utility>

namespace mad::cuda::channel_mixer_detail {

/// Parts that are on their way while one is used.
inline constexpr int ahead = 2;

/// Columns outside, of all weights, of which parts of 32 columns of the inside fit into the 99 KiB that some devices
/// give a block: single warps have ahead + 1 of them in rows of at most 32 + 8 numbers.
inline constexpr int most_outside = 99 * 1024 / 2 / (ahead + 1) / (32 + 8) / 16 * 16;

/// Columns outside, of all weights.
template <class Form>
constexpr int outside_of(const Form& form) {
  int columns = 0;
  for (int w = 0; w < form.weights; ++w) columns += form.weight[w].outside;
  return columns;
}

/// A part of weight W: its rows and columns in shared memory.
template <class M, int W>
struct Part {
  static constexpr bool inside_rows = M::form.weight[W].inside_rows;
  static constexpr int outside = M::form.weight[W].outside;
  static constexpr int rows = inside_rows ? M::columns : outside;
  static constexpr int columns = inside_rows ? outside : M::columns;
  static constexpr int stored_columns = inside_rows ? outside : M::inside;
};

/// The part's rows behind each other, so far apart that eight of them lie in different banks.
template <class M, int W>
struct RowsTile {
  using P = Part<M, W>;
  static constexpr int stride = P::columns + 8;
  static constexpr int size = P::rows * stride;
  static __device__ int place(int row, int column) { return row * stride + column; }
};

/// The parts of all weights behind each other, and how they get there: threads take chunks of 8 columns along the rows,
/// part after part.
template <class M>
class Stage {
public:
  template <int... W>
  static constexpr int size_of(std::integer_sequence<int, W...>) {
    return (0 + ... + RowsTile<M, W>::size);
  }
  template <int W>
  static constexpr int begin = size_of(std::make_integer_sequence<int, W>{});
  static constexpr int size = begin<M::form.weights>;

  /// Begins with the part that the thread block computes first.
  __device__ explicit Stage(const typename M::Memory& memory) : part_(M::part_of(0)) { start(memory, All{}); }

  /// Starts to copy the first parts of each weight to the first stages, a group of copies for each.
  __device__ void fill_first(BFloat16* stages) {
#pragma unroll
    for (int p = 0; p < ahead; ++p) {
      if (p > 0) advance();
      if (p < M::parts) fill(stages + p * size);
      commit_copies();
    }
  }
  /// Starts to copy a part of each weight.
  __device__ void fill(BFloat16* stage) { fill(stage, All{}); }
  /// Goes on to the next part, behind the last one to the first.
  __device__ void advance() {
    const bool last = ++part_ == M::parts;
    if (last) part_ = 0;
    advance(last, All{});
  }

private:
  using All = std::make_integer_sequence<int, M::form.weights>;
  template <int W>
  struct Copies {
    using P = Part<M, W>;
    static constexpr int per_row = P::columns / 8;
    static constexpr int chunks = P::rows * per_row;
    static constexpr int rounds = (chunks + threads - 1) / threads;
    static constexpr int rows_per_round = threads / per_row;
    /// All rounds of a thread have the same columns: they are at constant distances from the first.
    static constexpr bool in_columns = threads % per_row == 0 && rows_per_round % 8 == 0;
    static constexpr int to_next = P::inside_rows ? M::columns * P::stored_columns : M::columns;
    static __device__ int row(int i) { return i / per_row; }
    static __device__ int column(int i) { return i % per_row * 8; }
  };

  template <int... W>
  __device__ void start(const typename M::Memory& memory, std::integer_sequence<int, W...>) {
    ((from_[W] = memory.weight[W] + part_ * Copies<W>::to_next + first_of<W>()), ...);
  }
  template <int W>
  static __device__ int first_of() {
    using C = Copies<W>;
    const int thread = static_cast<int>(threadIdx.x);
    return C::in_columns ? C::row(thread) * Part<M, W>::stored_columns + C::column(thread) : 0;
  }
  template <int... W>
  __device__ void fill(BFloat16* stage, std::integer_sequence<int, W...>) {
    (fill_part<W>(stage + begin<W>), ...);
  }
  template <int W>
  __device__ void fill_part(BFloat16* tile) {
    using T = RowsTile<M, W>;
    using C = Copies<W>;
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (C::in_columns) {
      BFloat16* to = tile + T::place(C::row(thread), C::column(thread));
      fill_rounds<W>(to, std::make_integer_sequence<int, C::rounds>{});
    } else {
#pragma unroll
      for (int round = 0; round < C::rounds; ++round) {
        const int i = round * threads + thread;
        if (i < C::chunks)
          copy_async<8>(tile + T::place(C::row(i), C::column(i)),
                        from_[W] + C::row(i) * Part<M, W>::stored_columns + C::column(i));
      }
    }
  }
  template <int W, int... Round>
  __device__ void fill_rounds(BFloat16* to, std::integer_sequence<int, Round...>) {
    using C = Copies<W>;
    constexpr int to_step = 2 * RowsTile<M, W>::stride * C::rows_per_round;
    constexpr int from_step = 2 * C::rows_per_round * Part<M, W>::stored_columns;
    ((((Round + 1) * threads <= C::chunks || Round * threads + static_cast<int>(threadIdx.x) < C::chunks)
          ? copy_async_behind<Round * to_step, Round * from_step>(to, from_[W])
          : void()),
     ...);
  }
  template <int... W>
  __device__ void advance(bool last, std::integer_sequence<int, W...>) {
    ((from_[W] += last ? Copies<W>::to_next * (1 - M::parts) : Copies<W>::to_next), ...);
  }

  int part_;
  const BFloat16* from_[M::form.weights];
};

/// Products by single warps: 16 columns of the inside at a time.
template <class M>
struct WarpProducts {
  using Stage = channel_mixer_detail::Stage<M>;
  static constexpr int stages = ahead + 1;
  static constexpr int group = 16;  ///< columns of the inside between the products
  static constexpr int shared_bytes = 2 * stages * Stage::size;
  static_assert(shared_bytes <= 99 * 1024);

  /// The columns from \p first on of the product that load L is.
  template <int L>
  static __device__ void way_in(std::uint32_t stage, int first, const typename M::Inputs& input,
                                tensor::Sums (&sums)[2]) {
    constexpr int w = M::form.in[L].weight;
    constexpr int i = M::form.in[L].input;
    const std::uint32_t tile = address_of_lane<w, Part<M, w>::inside_rows>(stage);
    sums[0] = sums[1] = {};
#pragma unroll
    for (int s = 0; s < M::template steps<i>; ++s) {
      tensor::Right<16> right[2];
      load_factors<w, Part<M, w>::inside_rows>(tile, first, s * 16, right);
      tensor::multiply_add(sums[0], input[M::template first_step<i> + s], right[0]);
      tensor::multiply_add(sums[1], input[M::template first_step<i> + s], right[1]);
    }
  }
  /// Adds the product of the columns from \p first on.
  template <int O>
  static __device__ void way_out(std::uint32_t stage, int first, const std::uint32_t (&inner)[2][2],
                                 typename M::Result& result) {
    constexpr int w = M::form.out[O].weight;
    const std::uint32_t tile = address_of_lane<w, !Part<M, w>::inside_rows>(stage);
    const tensor::Left<16> left{{inner[0][0], inner[0][1], inner[1][0], inner[1][1]}};
#pragma unroll
    for (int c = 0; c < M::result_width / 16; ++c) {
      tensor::Right<16> right[2];
      load_factors<w, !Part<M, w>::inside_rows>(tile, c * 16, first, right);
      tensor::multiply_add(result[2 * c], left, right[0]);
      tensor::multiply_add(result[2 * c + 1], left, right[1]);
    }
  }

private:
  /// Where a lane reads two right factors of 16 x 8, side by side. The rows of the part are the product's columns, or
  /// else its summands.
  template <int W, bool RowsAreColumns>
  static __device__ std::uint32_t address_of_lane(std::uint32_t stage) {
    constexpr int stride = RowsTile<M, W>::stride;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int within = lane % 8;
    const int second = lane / 8 % 2 * 8;
    const int third = lane / 16 * 8;
    const int place = RowsAreColumns ? (third + within) * stride + second : (second + within) * stride + third;
    return stage + 2 * static_cast<std::uint32_t>(Stage::template begin<W> + place);
  }
  template <int W, bool RowsAreColumns>
  static __device__ void load_factors(std::uint32_t tile, int column, int summand, tensor::Right<16> (&right)[2]) {
    const int row = RowsAreColumns ? column : summand;
    const int across = RowsAreColumns ? summand : column;
    std::uint32_t matrix[4];
    tensor::load_matrices<!RowsAreColumns>(tile, 0, (row * RowsTile<M, W>::stride + across) * 2, matrix);
    right[0] = {{matrix[0], matrix[1]}};
    right[1] = {{matrix[2], matrix[3]}};
  }
};

}  // namespace mad::cuda::channel_mixer_detail
