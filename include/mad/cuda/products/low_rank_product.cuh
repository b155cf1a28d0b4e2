// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Two matrix products of bfloat16 rows with few columns between them, in one kernel on the tensor cores:
///
///   z = x W1,   y = f(z' W2 + bias + addend)
///
/// with z' any neighbouring columns of the rows in memory that z is written to; the others of these are read. What
/// bounds such a pair is reading x and writing y, and next to that the number of instructions. A warp has all columns
/// of 16 rows: z goes from one product to the next in its registers, and all that is read is on its way before anything
/// is computed.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/products/low_rank_weights.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda {

namespace low_rank_detail {

struct Pair {
  const BFloat16* x;
  BFloat16* z;
  const BFloat16* used;  ///< z'
  BFloat16* y;
  const BFloat16* addend;
  unsigned x_stride;
  unsigned z_stride;
  unsigned y_stride;
  unsigned addend_stride;
  StoredWeight first;
  StoredWeight second;
  /// In pieces of 8 columns of z': bit 4 b + j is set if piece b is piece j of z, bit b if it is none of these.
  unsigned computed;
  unsigned others;
  unsigned rows;
};

/// 16 rows of x, or of the addend: a lane has 8 of each 32 neighbouring columns of two. Rows behind the last are the
/// last, columns behind the last are 0.
struct WideRows {
  uint4 low[widest / 32];
  uint4 high[widest / 32];

  __device__ void fetch(const BFloat16* from, unsigned stride, unsigned columns, unsigned row, unsigned rows) {
    const unsigned lane = threadIdx.x % 32;
    from += lane % 4 * 8;
    const BFloat16* first = from + static_cast<std::size_t>(min(row + lane / 4, rows - 1)) * stride;
    const BFloat16* second = from + static_cast<std::size_t>(min(row + lane / 4 + 8, rows - 1)) * stride;
#pragma unroll
    for (unsigned c = 0; c < widest / 32; ++c) {
      low[c] = high[c] = uint4{};
      if (c * 32 < columns) {
        low[c] = *reinterpret_cast<const uint4*>(first + c * 32);
        high[c] = *reinterpret_cast<const uint4*>(second + c * 32);
      }
    }
  }
  /// Eight rows as the right factor of 16 summands.
  __device__ tensor::Right<16> low_right(unsigned step) const { return right(low[step / 2], step); }
  __device__ tensor::Right<16> high_right(unsigned step) const { return right(high[step / 2], step); }

private:
  static __device__ tensor::Right<16> right(const uint4& eight, unsigned step) {
    return step % 2 == 0 ? tensor::Right<16>{{eight.x, eight.y}} : tensor::Right<16>{{eight.z, eight.w}};
  }
};

/// 16 rows of z, or of z', in pieces of 8 columns: a lane's two numbers of a piece, of its first and of its second row.
template <unsigned Middle>
struct Middles {
  std::uint32_t piece[Middle / 8][2];
};

/// The columns of z' that are not z's, and a column of ones behind the last of it where there is a bias; 0 for others.
template <unsigned Middle>
__device__ Middles<Middle> fetch_others(const Pair& pair, unsigned row) {
  const auto lane = threadIdx.x % 32;
  const BFloat16* from[2];
#pragma unroll
  for (unsigned half = 0; half < 2; ++half)
    from[half] = pair.used + static_cast<std::size_t>(min(row + lane / 4 + half * 8, pair.rows - 1)) * pair.z_stride +
                 lane % 4 * 2;
  const std::uint32_t one = lane % 4 == 0 && pair.second.bias != nullptr ? 0x3f80u : 0;
  Middles<Middle> z;
#pragma unroll
  for (unsigned b = 0; b < Middle / 8; ++b)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      z.piece[b][half] = 8 * b == pair.second.middle ? one : 0;
      if ((pair.others >> b & 1) != 0) z.piece[b][half] = *reinterpret_cast<const std::uint32_t*>(from[half] + 8 * b);
    }
  return z;
}

/// z = x W1, rounded. Its transpose is computed, since rows of x are a right factor as lanes read them.
template <unsigned Middle, class Weight>
__device__ Middles<Middle> multiply_first(const WideRows& x, const Weight& weight) {
  const std::uint32_t from = weight.for_lane();
  Middles<Middle> z;
#pragma unroll
  for (unsigned j = 0; j < Middle / 16; ++j) {
    tensor::Sums sums[2][2];  // of 8 rows; of every other 16 summands, since a product waits for the one before
#pragma unroll
    for (unsigned k = 0; k < widest / 16; ++k) {
      const tensor::Left<16> left = Weight::left(from, j, k);
      tensor::multiply_add(sums[0][k % 2], left, x.low_right(k));
      tensor::multiply_add(sums[1][k % 2], left, x.high_right(k));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        const float(&even)[4] = sums[half][0].value;
        const float(&odd)[4] = sums[half][1].value;
        z.piece[2 * j + b][half] =
            tensor::transposed(tensor::pack(even[2 * b] + odd[2 * b], even[2 * b + 1] + odd[2 * b + 1]));
      }
  }
  return z;
}

template <unsigned Middle>
__device__ void write_middle(const Pair& pair, const Middles<Middle>& z, unsigned row) {
  const auto lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    const unsigned own = row + lane / 4 + half * 8;
    BFloat16* to = pair.z + static_cast<std::size_t>(own) * pair.z_stride + lane % 4 * 2;
#pragma unroll
    for (unsigned j = 0; j < Middle / 8; ++j)
      if (8 * j < pair.first.middle && own < pair.rows)
        *reinterpret_cast<std::uint32_t*>(to + 8 * j) = z.piece[j][half];
  }
}

/// Puts the columns of z that z' has to the others.
template <unsigned Middle>
__device__ void take_computed(const Pair& pair, const Middles<Middle>& z, Middles<Middle>& used) {
#pragma unroll
  for (unsigned b = 0; b < Middle / 8; ++b)
#pragma unroll
    for (unsigned j = 0; j < Middle / 8; ++j) {
      const bool here = (pair.computed >> (4 * b + j) & 1) != 0;
      used.piece[b][0] = here ? z.piece[j][0] : used.piece[b][0];
      used.piece[b][1] = here ? z.piece[j][1] : used.piece[b][1];
    }
}

/// 32 columns of 16 rows of y: a lane has 8 neighbours of two rows, two from each of four blocks.
struct Chunk32 {
  tensor::Sums sums[4];

  /// Begins with a row of the addend.
  __device__ void begin(const uint4& eight, int half) {
    const std::uint32_t words[4]{eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (unsigned m = 0; m < 4; ++m) {
      sums[m].value[2 * half] = __uint_as_float(words[m] << 16);
      sums[m].value[2 * half + 1] = __uint_as_float(words[m] & 0xffff0000u);
    }
  }
  template <class Weight, unsigned Middle>
  __device__ void multiply_add(const Middles<Middle>& z, std::uint32_t weight, unsigned c) {
#pragma unroll
    for (unsigned m = 0; m < 4; m += 2)
#pragma unroll
      for (unsigned s = 0; s < Middle / 16; ++s) {
        const std::uint32_t(&low)[2] = z.piece[2 * s];
        const std::uint32_t(&high)[2] = z.piece[2 * s + 1];
        const tensor::Left<16> left{{low[0], low[1], high[0], high[1]}};
        std::uint32_t right[4];
        Weight::right(weight, s, c * 32 + m * 8, right);
        tensor::multiply_add(sums[m], left, tensor::Right<16>{{right[0], right[1]}});
        tensor::multiply_add(sums[m + 1], left, tensor::Right<16>{{right[2], right[3]}});
      }
  }
  template <class Function>
  __device__ uint4 row(int half) const {
    const auto two = [&](unsigned m) {
      return tensor::pack(Function::apply(sums[m].value[2 * half]), Function::apply(sums[m].value[2 * half + 1]));
    };
    return {two(0), two(1), two(2), two(3)};
  }
};

/// Every warp takes 16 rows. With \p Adds there is an addend. f is \p Function.
template <unsigned Middle, bool InOut, bool Adds, class Function>
__global__ void __launch_bounds__(threads, 1) multiply(const __grid_constant__ Pair pair) {
  extern __shared__ uint4 low_rank_memory[];
  auto& weights = reinterpret_cast<Weights<Middle, InOut>&>(low_rank_memory);
  const auto lane = threadIdx.x % 32;
  const unsigned row = blockIdx.x * block_rows + threadIdx.x / 32 * 16;

  weights.fetch_async(pair.first, pair.second);
  commit_copies();
  WideRows x;
  x.fetch(pair.x, pair.x_stride, pair.first.wide, row, pair.rows);
  Middles<Middle> used = fetch_others<Middle>(pair, row);
  [[maybe_unused]] WideRows addend;
  if constexpr (Adds) addend.fetch(pair.addend, pair.addend_stride, pair.second.wide, row, pair.rows);
  __syncthreads();  // here for the compiler, which would wait for weights before it asks for rows
  wait_for_copies<0>();
  weights.arrange(pair.second);
  __syncthreads();

  const Middles<Middle> z = multiply_first<Middle>(x, weights.first);
  write_middle(pair, z, row);
  take_computed(pair, z, used);
  const std::uint32_t weight = weights.second.for_lane();
  const unsigned own = row + lane / 4;
  BFloat16* const to = pair.y + static_cast<std::size_t>(own) * pair.y_stride + lane % 4 * 8;
  BFloat16* const to_next = to + static_cast<std::size_t>(8) * pair.y_stride;
  constexpr unsigned together = 4;  // a product waits for what it reads, and a store for the product
#pragma unroll
  for (unsigned begin = 0; begin < widest / 32; begin += together) {
    if (begin * 32 >= pair.second.wide) break;
    Chunk32 chunk[together];
#pragma unroll
    for (unsigned c = 0; c < together; ++c) {
      if constexpr (Adds) chunk[c].begin(addend.low[begin + c], 0);
      if constexpr (Adds) chunk[c].begin(addend.high[begin + c], 1);
      chunk[c].template multiply_add<decltype(weights.second)>(used, weight, begin + c);
    }
#pragma unroll
    for (unsigned c = 0; c < together; ++c) {
      const uint4 first = chunk[c].template row<Function>(0);
      const uint4 second = chunk[c].template row<Function>(1);
      const bool is_column = (begin + c) * 32 < pair.second.wide;
      if (is_column && own < pair.rows) *reinterpret_cast<uint4*>(to + (begin + c) * 32) = first;
      if (is_column && own + 8 < pair.rows) *reinterpret_cast<uint4*>(to_next + (begin + c) * 32) = second;
    }
  }
}

template <class Function, unsigned Middle, bool InOut>
void start(Queue& queue, const Pair& pair) {
  const auto kernel =
      pair.addend != nullptr ? multiply<Middle, InOut, true, Function> : multiply<Middle, InOut, false, Function>;
  queue.launch("a product of low rank", kernel, dim3((pair.rows + block_rows - 1) / block_rows), dim3(threads),
               sizeof(Weights<Middle, InOut>), pair);
}
template <class Function, unsigned Middle>
void start(Queue& queue, const Pair& pair, bool in_out) {
  if (in_out)
    start<Function, Middle, true>(queue, pair);
  else
    start<Function, Middle, false>(queue, pair);
}

/// Columns of z and z' for which there is to be room: z' has one more where there is a bias.
inline int columns_between(const GroupedProduct& first, const GroupedProduct& second) {
  return std::max(first.columns, second.term.front().inner + (second.bias != nullptr ? 1 : 0));
}

}  // namespace low_rank_detail

/// Columns of z' that the kernel can take.
inline constexpr int most_columns_between = low_rank_detail::most_middle;

/// True where the kernel can take two products that `takes` is true of: the second's x are columns of the rows of at
/// most 32 numbers in which the first's y lies, nothing but z comes between, both weights are stored alike, and x and y
/// have multiples of 32 columns. Whether other memory of theirs overlaps is for the caller to know.
inline bool takes_low_rank(const GroupedProduct& first, const GroupedProduct& second) {
  using namespace low_rank_detail;
  if (first.terms != 1 || second.terms != 1 || first.addend != nullptr || first.bias != nullptr) return false;
  const GroupedProduct::Term& x = first.term.front();
  const GroupedProduct::Term& z = second.term.front();
  const auto is_wide = [](int columns) { return columns % 32 == 0 && columns <= static_cast<int>(widest); };
  if (!is_wide(x.inner) || !is_wide(second.columns) || columns_between(first, second) > static_cast<int>(most_middle))
    return false;
  if (x.in_out != z.in_out || z.x_stride != first.y_stride) return false;
  const std::ptrdiff_t behind = (reinterpret_cast<std::intptr_t>(z.x) - reinterpret_cast<std::intptr_t>(first.y)) /
                                static_cast<std::ptrdiff_t>(sizeof(BFloat16));
  if (behind % 8 != 0 || behind >= first.columns || behind + z.inner <= 0) return false;
  // Columns of a row meet no others than those of the same row.
  const std::ptrdiff_t begin = std::min<std::ptrdiff_t>(behind, 0);
  const std::ptrdiff_t end = std::max<std::ptrdiff_t>(behind + z.inner, first.columns);
  return end - begin <= static_cast<std::ptrdiff_t>(first.y_stride);
}

/// z = x W1 and y = f(z' W2 + bias + addend), both written. y may be the addend's memory. A template, so that only what
/// uses it compiles its kernels.
template <class Function = AsItIs>
void multiply_low_rank(Queue& queue, const GroupedProduct& first, const GroupedProduct& second, Index rows) {
  using namespace low_rank_detail;
  const GroupedProduct::Term& x = first.term.front();
  const GroupedProduct::Term& z = second.term.front();
  Pair pair{.x = x.x,
            .z = first.y,
            .used = z.x,
            .y = second.y,
            .addend = second.addend,
            .x_stride = static_cast<unsigned>(x.x_stride),
            .z_stride = static_cast<unsigned>(first.y_stride),
            .y_stride = static_cast<unsigned>(second.y_stride),
            .addend_stride = static_cast<unsigned>(second.addend_stride),
            .first = {.value = x.weight,
                      .wide = static_cast<unsigned>(x.inner),
                      .middle = static_cast<unsigned>(first.columns),
                      .bias = nullptr},
            .second = {.value = z.weight,
                       .wide = static_cast<unsigned>(second.columns),
                       .middle = static_cast<unsigned>(z.inner),
                       .bias = second.bias},
            .computed = 0,
            .others = 0,
            .rows = static_cast<unsigned>(rows)};
  const auto behind = static_cast<int>((z.x - first.y) / 8);
  for (int b = 0; b < z.inner / 8; ++b) {
    const int piece = b + behind;
    if (piece >= 0 && piece < first.columns / 8)
      pair.computed |= 1u << (4 * b + piece);
    else
      pair.others |= 1u << b;
  }
  if (columns_between(first, second) <= 16)
    start<Function, 16>(queue, pair, x.in_out);
  else
    start<Function, 32>(queue, pair, x.in_out);
}

}  // namespace mad::cuda
