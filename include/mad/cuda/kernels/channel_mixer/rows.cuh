// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How a warp of a channel mixer's kernel reads and writes its 16 rows, in two ways. `M` is the mixer
/// (kernel.cuh): `form` has widths, strides and what can be accessed at once.
#pragma once

#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/channel_mixer/form.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace mad::cuda::channel_mixer_detail {

inline constexpr int threads = 256;
inline constexpr int rows_per_warp = 16;
inline constexpr int rows_per_block = threads / 32 * rows_per_warp;

/// Blocks of so many rows that there are.
__host__ __device__ inline unsigned blocks_of(unsigned rows) { return (rows + rows_per_block - 1) / rows_per_block; }
/// The first row of this warp among those of a block.
__device__ inline unsigned first_row_of_warp(unsigned block) {
  return block * rows_per_block + threadIdx.x / 32 * rows_per_warp;
}

/// `Count` neighbouring numbers between registers and memory, as many at once as `Alignment`, in bytes, allows.
template <int Count, int Alignment>
struct Words {
  static_assert(Count % 2 == 0);
  using Access = std::conditional_t<(Alignment >= 16 && Count % 8 == 0), uint4,
                                    std::conditional_t<(Alignment >= 8 && Count % 4 == 0), uint2,
                                                       std::conditional_t<(Alignment >= 4), unsigned, std::uint16_t>>>;
  static constexpr int accesses = Count * 2 / static_cast<int>(sizeof(Access));

  static __device__ void copy(void* to, const void* from) {
#pragma unroll
    for (int i = 0; i < accesses; ++i) static_cast<Access*>(to)[i] = static_cast<const Access*>(from)[i];
  }
};

/// Rows go straight between memory and the registers in which products have them: a lane has two neighbouring columns
/// of rows l / 4 and l / 4 + 8 in every eight.
template <class M>
struct DirectRows {
  unsigned row[2];
  unsigned readable[2];
  const typename M::Memory& memory;

  __device__ explicit DirectRows(const typename M::Memory& memory) : memory(memory) {
    row[0] = first_row_of_warp(blockIdx.x) + threadIdx.x % 32 / 4;
    row[1] = row[0] + 8;
#pragma unroll
    for (int half = 0; half < 2; ++half) readable[half] = min(row[half], memory.rows - 1);
  }

  __device__ void load(typename M::Inputs& input) const {
    load_input<0>(input);
    load_input<1>(input);
  }
  __device__ void store_norm(const typename M::Inputs& input) const {
    store_rows<M::form.norm_stride>(memory.normed, input);
  }
  __device__ void read_late(typename M::WholeRows& late) const {
    load_rows<M::late_stride>(memory.late, late, M::result_width / 16);
  }
  /// What lies inside, from column \p first on.
  template <int Tiles, int... S>
  __device__ void store_members(int first, const std::uint32_t (&inner)[M::members][Tiles][2],
                                std::integer_sequence<int, S...>) {
    (store_member<S>(first, inner[M::form.stored[S]]), ...);
  }
  __device__ void store_result(const typename M::WholeRows& result) const {
    store_rows<M::result_stride>(memory.result, result);
  }

private:
  template <int Stride>
  static __device__ std::size_t at(unsigned row) {
    return static_cast<std::size_t>(row) * Stride;
  }
  static __device__ int column() { return static_cast<int>(threadIdx.x) % 4 * 2; }

  template <int I>
  __device__ void load_input(typename M::Inputs& input) const {
    if constexpr (I < M::form.inputs)
      load_rows<M::form.input_stride[I]>(memory.input[I], input + M::template first_step<I>, M::template steps<I>);
  }
  template <int Stride>
  __device__ void load_rows(const BFloat16* from, tensor::Left<16>* to, int steps) const {
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part)
        Words<2, M::alignment>::copy(&to[s].part[part],
                                     from + at<Stride>(readable[part % 2]) + s * 16 + part / 2 * 8 + column());
    }
  }
  /// The lanes exchange what they have: all have read by then what may lie where they write.
  template <int Stride, int Steps>
  __device__ void store_rows(BFloat16* to, const tensor::Left<16> (&rows)[Steps]) const {
#pragma unroll
    for (int s = 0; s < Steps; ++s) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        store_columns(to + at<Stride>(row[half]) + s * 16, rows[s].part[half], rows[s].part[2 + half],
                      row[half] < memory.rows);
    }
  }
  template <int S, int Tiles>
  __device__ void store_member(int first, const std::uint32_t (&inner)[Tiles][2]) {
#pragma unroll
    for (int tile = 0; tile < Tiles; tile += 2) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        store_columns(memory.member[S] + at<M::form.member_stride[S]>(row[half]) + first + tile * 8, inner[tile][half],
                      inner[tile + 1][half], row[half] < memory.rows);
    }
  }

  /// Stores a row's 16 columns, of which lane q of its four has 2q, 2q + 1 of the first eight and of the second: the
  /// lanes exchange them so that each has four neighbours. \p to is the first of the 16.
  static __device__ void store_columns(BFloat16* to, std::uint32_t first, std::uint32_t second, bool here) {
    const unsigned q = threadIdx.x % 4;
    const bool right = q >= 2;
    const bool odd = q % 2 != 0;
    const std::uint32_t across = __shfl_xor_sync(0xffffffffu, right ? first : second, 2);
    const std::uint32_t low = right ? across : first;
    const std::uint32_t high = right ? second : across;
    const std::uint32_t beside = __shfl_xor_sync(0xffffffffu, odd ? low : high, 1);
    const uint2 four = {odd ? beside : low, odd ? high : beside};
    if (here) Words<4, M::alignment>::copy(to + 4 * q, &four);
  }
};

/// Rows go through a part of shared memory that is the warp's own, as whole rows, and are on their way while the warp
/// computes: what leaves the inside, what is read late or the result, and the inputs of the rows that come next.
template <class M>
struct StagedRows {
  static constexpr int padding = 8;  ///< so that eight rows lie in different banks
  template <int Width>
  static constexpr int size_of = rows_per_warp*(Width + padding);
  static constexpr int member_size = rows_per_warp * M::columns;  ///< swizzled, as the copy engine takes it
  static constexpr int result_begin = M::stored_members * member_size;
  static constexpr int inputs_begin = result_begin + size_of<M::result_width>;
  static constexpr int second_begin = inputs_begin + size_of<M::form.input_width[0]>;
  static constexpr int end = second_begin + (M::form.inputs > 1 ? size_of<M::form.input_width[1]> : 0);
  static constexpr int warp_size = (end + 511) / 512 * 512;  ///< the swizzle's pattern begins anew
  static constexpr int shared_size = threads / 32 * warp_size;

  const typename M::Memory& memory;
  BFloat16* own;
  unsigned first_row = 0;

  __device__ StagedRows(const typename M::Memory& memory, BFloat16* shared)
      : memory(memory), own(shared + threadIdx.x / 32 * warp_size) {}

  /// Starts to load the inputs of the warp's rows among so many of a block.
  __device__ void start_to_load(unsigned block) {
    const unsigned first = first_row_of_warp(block);
    fetch<M::form.input_width[0], M::form.input_stride[0]>(own + inputs_begin, memory.input[0], first);
    if constexpr (M::form.inputs > 1)
      fetch<M::form.input_width[1], M::form.input_stride[1]>(own + second_begin, memory.input[1], first);
    commit_copies();
  }
  /// Goes on to the rows of a block, whose loads have been started.
  __device__ void load(typename M::Inputs& input, unsigned block) {
    first_row = first_row_of_warp(block);
    wait_for_copies<0>();
    __syncwarp();  // all lanes have copied, and are done with the result of the rows before
    read<0>(own + inputs_begin, input);
    if constexpr (M::form.inputs > 1) read<1>(own + second_begin, input);
    __syncwarp();  // and have read what is overwritten now
  }
  __device__ void store_norm(const typename M::Inputs& input) {
    store_rows<M::form.norm_stride>(own + inputs_begin, input, memory.normed);
    __syncwarp();
  }
  /// Starts to load what is read late, and the inputs of the block that is next.
  __device__ void load_ahead(unsigned next) {
    if constexpr (M::reads_late) fetch<M::result_width, M::late_stride>(own + result_begin, memory.late, first_row);
    start_to_load(next);
  }

  /// What lies inside goes to shared memory. From there `send_members` stores it, in columns from \p first on: the copy
  /// engine does, or lanes where it cannot, and only rows that are there.
  template <int Tiles, int... S>
  __device__ void put_members(const std::uint32_t (&inner)[M::members][Tiles][2], std::integer_sequence<int, S...>) {
    if constexpr (sizeof...(S) > 0) {
      if (M::alignment >= 16 && threadIdx.x % 32 == 0) wait_for_boxes_to_be_read();
      __syncwarp();  // what lay here has been stored
      (put_member(own + S * member_size, inner[M::form.stored[S]]), ...);
    }
  }
  template <int... S>
  __device__ void send_members(int first, std::integer_sequence<int, S...>) {
    if constexpr (sizeof...(S) > 0 && M::alignment >= 16) {
      show_to_copies();
      __syncwarp();
      if (threadIdx.x % 32 == 0) {
        (store_box(static_cast<std::uint32_t>(__cvta_generic_to_shared(own + S * member_size)), memory.member_map[S],
                   static_cast<int>(first_row), first),
         ...);
        commit_boxes();
      }
    } else if constexpr (sizeof...(S) > 0) {
      __syncwarp();
      (store_member<M::form.member_stride[S]>(own + S * member_size, memory.member[S] + first), ...);
    }
  }
  /// Waits for what still reads or writes the block's shared memory, before it ends.
  __device__ void finish() const {
    wait_for_copies<0>();
    if constexpr (M::stored_members > 0 && M::alignment >= 16) wait_for_boxes_to_be_read();
  }
  __device__ void read_late(typename M::WholeRows& late) {
    wait_for_copies<0>();
    __syncwarp();
#pragma unroll
    for (int s = 0; s < M::result_width / 16; ++s) late[s] = read_step<M::result_width>(own + result_begin, s * 16);
    __syncwarp();
  }
  __device__ void store_result(const typename M::WholeRows& result) {
    store_rows<M::result_stride>(own + result_begin, result, memory.result);
  }
  /// Where the result was on its way out, for sums that a warp has in the end.
  __device__ float* room_for_sums() const {
    __syncwarp();  // it has been read
    return reinterpret_cast<float*>(own + result_begin);
  }
  __device__ const float* room_of_first_warp() const {
    return reinterpret_cast<const float*>(own + result_begin - threadIdx.x / 32 * warp_size);
  }

private:
  /// The warp's rows of a value in chunks of eight columns: the i-th of a lane is at (`row(i)`, `column(i)`), which is
  /// a constant distance from the first where lanes are whole rows.
  template <int Width, int Stride>
  struct Chunks {
    static constexpr int per_row = Width / 8;
    static constexpr int count = rows_per_warp * per_row / 32;
    static __device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
    static __device__ int row(int i) {
      return 32 % per_row == 0 ? lane() / per_row + i * (32 / per_row) : (i * 32 + lane()) / per_row;
    }
    static __device__ int column(int i) { return (32 % per_row == 0 ? lane() : i * 32 + lane()) % per_row * 8; }
    static __device__ int in_tile(int i) { return row(i) * (Width + padding) + column(i); }
    static __device__ std::size_t in_memory(unsigned first, int i) {
      if constexpr (32 % per_row == 0)
        return static_cast<std::size_t>(first + row(0)) * Stride + column(0) + i * (32 / per_row) * Stride;
      else
        return static_cast<std::size_t>(first + row(i)) * Stride + column(i);
    }
  };
  /// Starts to copy the warp's rows of a value; those that are not there are zeros.
  template <int Width, int Stride>
  __device__ void fetch(BFloat16* tile, const BFloat16* from, unsigned first) {
    using C = Chunks<Width, Stride>;
#pragma unroll
    for (int i = 0; i < C::count; ++i) {
      const bool here = first + C::row(i) < memory.rows;
      const BFloat16* source = from + C::in_memory(first, i);
      if constexpr (M::alignment >= 16) {
        copy_or_clear_async(tile + C::in_tile(i), source, here);
      } else {
        uint4 chunk{};
        if (here) Words<8, M::alignment>::copy(&chunk, source);
        *reinterpret_cast<uint4*>(tile + C::in_tile(i)) = chunk;
      }
    }
  }
  template <int Width, int Stride>
  __device__ void take(const BFloat16* tile, uint4 (&chunk)[Chunks<Width, Stride>::count]) {
    using C = Chunks<Width, Stride>;
#pragma unroll
    for (int i = 0; i < C::count; ++i) chunk[i] = *reinterpret_cast<const uint4*>(tile + C::in_tile(i));
  }
  template <int Width, int Stride>
  __device__ void store(const uint4 (&chunk)[Chunks<Width, Stride>::count], BFloat16* to) {
    using C = Chunks<Width, Stride>;
#pragma unroll
    for (int i = 0; i < C::count; ++i)
      if (first_row + C::row(i) < memory.rows) Words<8, M::alignment>::copy(to + C::in_memory(first_row, i), &chunk[i]);
  }

  template <int Width>
  static __device__ tensor::Left<16> read_step(const BFloat16* tile, int column) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    tensor::Left<16> left;
    tensor::load_matrices<false>(tile + lane % 16 * (Width + padding) + column + lane / 16 * 8, left.part);
    return left;
  }
  template <int I>
  static __device__ void read(const BFloat16* tile, typename M::Inputs& input) {
#pragma unroll
    for (int s = 0; s < M::template steps<I>; ++s)
      input[M::template first_step<I> + s] = read_step<M::form.input_width[I]>(tile, s * 16);
  }
  /// Where eight columns of a row lie in a member's tile.
  static __device__ int in_member(int row, int eight) {
    const int swizzle = M::columns == 32 ? row / 2 % 4 : row / 4 % 2;
    return row * M::columns + (eight ^ swizzle) * 8;
  }
  static __device__ void put_member(BFloat16* tile, const std::uint32_t (&word)[M::columns / 8][2]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int t = 0; t < M::columns / 8; t += 2)
      tensor::store_matrices(tile + in_member(lane % 16, t + lane / 16),
                             {word[t][0], word[t][1], word[t + 1][0], word[t + 1][1]});
  }
  template <int Stride>
  __device__ void store_member(const BFloat16* tile, BFloat16* to) const {
    constexpr int per_row = M::columns / 8;
#pragma unroll
    for (int i = static_cast<int>(threadIdx.x) % 32; i < rows_per_warp * per_row; i += 32) {
      const unsigned row = first_row + i / per_row;
      if (row < memory.rows)
        Words<8, M::alignment>::copy(to + static_cast<std::size_t>(row) * Stride + i % per_row * 8,
                                     tile + in_member(i / per_row, i % per_row));
    }
  }
  /// Words as products have them go into rows, and these to memory.
  template <int Stride, int Steps>
  __device__ void store_rows(BFloat16* tile, const tensor::Left<16> (&words)[Steps], BFloat16* to) {
    constexpr int width = 16 * Steps;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    __syncwarp();  // what lay here has been read
#pragma unroll
    for (int s = 0; s < Steps; ++s)
      tensor::store_matrices(tile + lane % 16 * (width + padding) + lane / 16 * 8 + s * 16, words[s].part);
    __syncwarp();
    uint4 chunk[Chunks<width, 0>::count];
    take<width, 0>(tile, chunk);
    store<width, Stride>(chunk, to);
  }
};

}  // namespace mad::cuda::channel_mixer_detail
