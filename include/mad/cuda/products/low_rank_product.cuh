// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Two matrix products of bfloat16 rows with few columns between them, in one kernel on the tensor cores:
///
///   z = x W1,   y = z' W2 + bias + addend
///
/// with z' any neighbouring columns of the rows in memory that z is written to; the others of these are read. What
/// bounds such a pair is reading x and writing y. A warp has all columns of 16 rows, so z goes from one product to the
/// next in its registers. All that is read is on its way before anything is computed, and weights lie in shared memory.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/async_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/products/low_rank_weights.cuh>
#include <mad/cuda/products/product_group.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mad::cuda {

namespace low_rank_detail {

using product_group_detail::Part;

struct Pair {
  Term first;   ///< x and W1
  Term second;  ///< z' and W2
  Part y;
  BFloat16* z;
  unsigned z_stride;
  int middle;  ///< columns of z
  /// In pieces of 8 columns: bit 4 b + j is set if piece b of z' is piece j of z, bit b if it is none of these.
  unsigned computed;
  unsigned others;
  unsigned rows;
};

/// 16 rows of x, or of the addend: a lane has 8 of each 32 neighbouring columns of two. Columns that do not exist are
/// 0, rows behind the last are the last.
struct WideRows {
  uint4 low[widest / 32];
  uint4 high[widest / 32];

  __device__ void fetch(const BFloat16* from, unsigned stride, int columns, unsigned row, unsigned rows) {
    const auto lane = threadIdx.x % 32;
    const int own = static_cast<int>(lane % 4) * 8;
    const BFloat16* first = from + static_cast<std::size_t>(min(row + lane / 4, rows - 1)) * stride + own;
    const BFloat16* second = from + static_cast<std::size_t>(min(row + lane / 4 + 8, rows - 1)) * stride + own;
#pragma unroll
    for (int c = 0; c < widest / 32; ++c) {
      low[c] = high[c] = uint4{};
      if (own + c * 32 < columns) {
        low[c] = *reinterpret_cast<const uint4*>(first + c * 32);
        high[c] = *reinterpret_cast<const uint4*>(second + c * 32);
      }
    }
  }
  /// Eight rows as the right factor of 16 summands.
  __device__ tensor::Right<16> low_right(int step) const { return right(low[step / 2], step); }
  __device__ tensor::Right<16> high_right(int step) const { return right(high[step / 2], step); }

private:
  static __device__ tensor::Right<16> right(const uint4& eight, int step) {
    return step % 2 == 0 ? tensor::Right<16>{{eight.x, eight.y}} : tensor::Right<16>{{eight.z, eight.w}};
  }
};

/// 16 rows of z, or of z', in pieces of 8 columns: a lane's two numbers of a piece, of its first and of its second row.
template <int Middle>
struct Middles {
  std::uint32_t piece[Middle / 8][2];
};

/// The columns of z' that are not z's; 0 for all others.
template <int Middle>
__device__ Middles<Middle> fetch_others(const Pair& pair, unsigned row) {
  const auto lane = threadIdx.x % 32;
  Middles<Middle> z;
#pragma unroll
  for (int b = 0; b < Middle / 8; ++b)
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned own = min(row + lane / 4 + half * 8, pair.rows - 1);
      z.piece[b][half] = 0;
      if ((pair.others >> b & 1) != 0)
        z.piece[b][half] = *reinterpret_cast<const std::uint32_t*>(
            pair.second.x + static_cast<std::size_t>(own) * pair.second.x_stride + 8 * b + lane % 4 * 2);
    }
  return z;
}

/// z = x W1, rounded.
template <int Middle>
__device__ Middles<Middle> multiply_first(const WideRows& x, const BFloat16* weight) {
  const auto* own = reinterpret_cast<const uint4*>(weight) + threadIdx.x % 32;
  Middles<Middle> z;
#pragma unroll
  for (int j = 0; j < Middle / 16; ++j) {
    tensor::Sums sums[2][2];  // of 8 rows; of every other 16 summands, since a product waits for the one before
#pragma unroll
    for (int k = 0; k < widest / 16; ++k) {
      const uint4 w = own[(j * (widest / 16) + k) * 32];
      const tensor::Left<16> left{{w.x, w.y, w.z, w.w}};
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

template <int Middle>
__device__ void write_middle(const Pair& pair, const Middles<Middle>& z, unsigned row) {
  const auto lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    const unsigned own = row + lane / 4 + half * 8;
    if (own >= pair.rows) break;
    BFloat16* to = pair.z + static_cast<std::size_t>(own) * pair.z_stride + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < Middle / 8; ++j)
      if (8 * j < pair.middle) *reinterpret_cast<std::uint32_t*>(to + 8 * j) = z.piece[j][half];
  }
}

/// Puts the columns of z that z' has to the others.
template <int Middle>
__device__ void take_computed(const Pair& pair, const Middles<Middle>& z, Middles<Middle>& used) {
#pragma unroll
  for (int b = 0; b < Middle / 8; ++b)
#pragma unroll
    for (int j = 0; j < Middle / 8; ++j) {
      const bool here = (pair.computed >> (4 * b + j) & 1) != 0;
      used.piece[b][0] = here ? z.piece[j][0] : used.piece[b][0];
      used.piece[b][1] = here ? z.piece[j][1] : used.piece[b][1];
    }
}

/// Columns [32 c, 32 c + 32) of y = bias + z' W2. A lane has 8 neighbours of two rows, two from each of four blocks.
template <int Middle>
__device__ void multiply_second(tensor::Sums (&y)[4], const Middles<Middle>& z, std::uint32_t weight,
                                const BFloat16* bias, int c) {
  const auto lane = static_cast<int>(threadIdx.x) % 32;
  float shift[8];
  load(bias + c * 32 + lane % 4 * 8, shift);
#pragma unroll
  for (int m = 0; m < 4; ++m) y[m] = {{shift[2 * m], shift[2 * m + 1], shift[2 * m], shift[2 * m + 1]}};
  constexpr int row_bytes = Second<Middle>::stride * 2;
  const std::uint32_t own =
      weight + static_cast<std::uint32_t>((lane / 16 * 8 + lane % 8) * row_bytes + lane / 8 % 2 * 16);
#pragma unroll
  for (int m = 0; m < 4; m += 2)
#pragma unroll
    for (int s = 0; s < Middle / 16; ++s) {
      const tensor::Left<16> left{{z.piece[2 * s][0], z.piece[2 * s][1], z.piece[2 * s + 1][0], z.piece[2 * s + 1][1]}};
      std::uint32_t right[4];
      tensor::load_matrices<false>(own, 0, (c * 32 + m * 8) * row_bytes + s * 32, right);
      tensor::multiply_add(y[m], left, tensor::Right<16>{{right[0], right[1]}});
      tensor::multiply_add(y[m + 1], left, tensor::Right<16>{{right[2], right[3]}});
    }
}

__device__ inline void add_rows(tensor::Sums (&y)[4], const WideRows& addend, int c) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4& eight = half == 0 ? addend.low[c] : addend.high[c];
    const std::uint32_t words[4]{eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      y[m].value[2 * half] += __uint_as_float(words[m] << 16);
      y[m].value[2 * half + 1] += __uint_as_float(words[m] & 0xffff0000u);
    }
  }
}

/// Where a lane writes its two rows of y.
struct Target {
  BFloat16* row[2];
  int columns[2];  ///< that are left from the lane's first on, or none

  __device__ Target(const Pair& pair, unsigned first) {
    const auto own = static_cast<int>(threadIdx.x % 4) * 8;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned r = first + threadIdx.x % 32 / 4 + half * 8;
      row[half] = pair.y.y + static_cast<std::size_t>(r) * pair.y.y_stride + own;
      columns[half] = r < pair.rows ? pair.y.columns - own : 0;
    }
  }
  __device__ void write(const tensor::Sums (&y)[4], int c) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto two = [&](int m) { return tensor::pack(y[m].value[2 * half], y[m].value[2 * half + 1]); };
      const uint4 eight{two(0), two(1), two(2), two(3)};
      if (c * 32 < columns[half]) *reinterpret_cast<uint4*>(row[half] + c * 32) = eight;
    }
  }
};

/// Every warp takes 16 rows. With \p Adds there is an addend.
template <int Middle, bool InOut, bool Adds>
__global__ void __launch_bounds__(threads, 1) multiply(const __grid_constant__ Pair pair) {
  extern __shared__ uint4 low_rank_memory[];
  auto& memory = reinterpret_cast<Memory<Middle, InOut>&>(low_rank_memory);
  const unsigned row = blockIdx.x * block_rows + threadIdx.x / 32 * 16;

  memory.first.fetch_async(pair.first, pair.middle);
  memory.second.fetch_async(pair.second, pair.y.columns);
  if (threadIdx.x < widest / 8)
    copy_or_clear_async(memory.bias + threadIdx.x * 8, pair.y.bias + threadIdx.x * 8,
                        pair.y.bias != nullptr && static_cast<int>(threadIdx.x) * 8 < pair.y.columns);
  commit_copies();
  WideRows x;
  x.fetch(pair.first.x, pair.first.x_stride, pair.first.inner, row, pair.rows);
  Middles<Middle> used = fetch_others<Middle>(pair, row);
  [[maybe_unused]] WideRows addend;
  if constexpr (Adds) addend.fetch(pair.y.addend, pair.y.addend_stride, pair.y.columns, row, pair.rows);
  __syncthreads();  // here for the compiler, which would wait for weights before it asks for rows
  wait_for_copies<0>();
  memory.first.arrange();
  memory.second.arrange();
  __syncthreads();

  const Middles<Middle> z = multiply_first<Middle>(x, memory.first.value);
  write_middle(pair, z, row);
  take_computed(pair, z, used);
  const auto weight = static_cast<std::uint32_t>(__cvta_generic_to_shared(memory.second.value));
  const Target target(pair, row);
  constexpr int together = 4;  // chunks of 32 columns: a product waits for what it reads, and a store for the product
#pragma unroll
  for (int first_chunk = 0; first_chunk < widest / 32; first_chunk += together) {
    if (first_chunk * 32 >= pair.y.columns) break;
    tensor::Sums sums[together][4];
#pragma unroll
    for (int c = 0; c < together; ++c) multiply_second(sums[c], used, weight, memory.bias, first_chunk + c);
#pragma unroll
    for (int c = 0; c < together; ++c) {
      const int chunk = first_chunk + c;
      if constexpr (Adds) add_rows(sums[c], addend, chunk);
      target.write(sums[c], chunk);
    }
  }
}

template <int Middle, bool InOut>
void start(Queue& queue, const Pair& pair) {
  const auto kernel = pair.y.addend != nullptr ? multiply<Middle, InOut, true> : multiply<Middle, InOut, false>;
  queue.launch("a product of low rank", kernel, dim3((pair.rows + block_rows - 1) / block_rows), dim3(threads),
               sizeof(Memory<Middle, InOut>), pair);
}
template <int Middle>
void start(Queue& queue, const Pair& pair) {
  if (pair.first.in_out)
    start<Middle, true>(queue, pair);
  else
    start<Middle, false>(queue, pair);
}

}  // namespace low_rank_detail

/// True where the kernel can take two products that `takes` is true of: the second's x are columns of the rows of at
/// most 32 numbers in which the first's y lies, nothing but z comes between, and both weights are stored alike. Whether
/// other memory of theirs overlaps is for the caller to know.
inline bool takes_low_rank(const GroupedProduct& first, const GroupedProduct& second) {
  using namespace low_rank_detail;
  if (first.terms != 1 || second.terms != 1 || first.addend != nullptr || first.bias != nullptr) return false;
  const GroupedProduct::Term& z = second.term.front();
  if (first.term.front().in_out != z.in_out) return false;
  if (first.columns > most_middle || z.inner > most_middle || z.x_stride != first.y_stride) return false;
  if (first.term.front().inner > widest || second.columns > widest) return false;
  const std::ptrdiff_t behind = (reinterpret_cast<std::intptr_t>(z.x) - reinterpret_cast<std::intptr_t>(first.y)) /
                                static_cast<std::ptrdiff_t>(sizeof(BFloat16));
  if (behind % 8 != 0 || behind >= first.columns || behind + z.inner <= 0) return false;
  // Columns of a row meet no others than those of the same row.
  const std::ptrdiff_t begin = std::min<std::ptrdiff_t>(behind, 0);
  const std::ptrdiff_t end = std::max<std::ptrdiff_t>(behind + z.inner, first.columns);
  return end - begin <= static_cast<std::ptrdiff_t>(first.y_stride);
}

/// z = x W1 and y = z' W2 + bias + addend, both written. y may be the addend's memory.
inline void multiply_low_rank(Queue& queue, const GroupedProduct& first, const GroupedProduct& second, Index rows) {
  using namespace low_rank_detail;
  const auto term = [](const GroupedProduct& p) {
    const GroupedProduct::Term& t = p.term.front();
    return Term{.x = t.x,
                .weight = t.weight,
                .x_stride = static_cast<unsigned>(t.x_stride),
                .weight_stride = static_cast<unsigned>(t.in_out ? p.columns : t.inner),
                .inner = t.inner,
                .in_out = t.in_out};
  };
  Pair pair;
  pair.first = term(first);
  pair.second = term(second);
  pair.y = {.y = second.y,
            .addend = second.addend,
            .bias = second.bias,
            .y_stride = static_cast<unsigned>(second.y_stride),
            .addend_stride = static_cast<unsigned>(second.addend_stride),
            .columns = second.columns,
            .first_term = 0,
            .terms = 1};
  pair.z = first.y;
  pair.z_stride = static_cast<unsigned>(first.y_stride);
  pair.middle = first.columns;
  pair.computed = pair.others = 0;
  const auto behind = static_cast<int>((second.term.front().x - first.y) / 8);
  for (int b = 0; b < second.term.front().inner / 8; ++b) {
    const int piece = b + behind;
    if (piece >= 0 && piece < first.columns / 8)
      pair.computed |= 1u << (4 * b + piece);
    else
      pair.others |= 1u << b;
  }
  pair.rows = static_cast<unsigned>(rows);
  if (std::max(first.columns, second.term.front().inner) <= 16)
    start<16>(queue, pair);
  else
    start<32>(queue, pair);
}

}  // namespace mad::cuda
