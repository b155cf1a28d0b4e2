// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Several matrix products of many rows and few columns at once, of bfloat16 values, on the tensor cores.
///
/// Bytes bound such a product, and how soon they are asked for. A block has the weights of one product in shared memory
/// and goes through rows with them. Rows need no shared memory: a lane reads and writes 16 bytes of a row, 8
/// neighbouring columns, and takes them for the columns that the tensor cores want of it; the weights' rows and columns
/// are put in that order instead. The next rows are on their way while results are written.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/tensor_copy.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/instructions/warpgroup.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mad::cuda {

namespace product_group_detail {

/// Columns of the largest weight that is one part; what is wider is cut up.
inline constexpr int widest = 128;
inline constexpr int most_parts = 16;  ///< of a group
inline constexpr int most_terms = 24;  ///< of all parts
inline constexpr int warpgroups = 4;   ///< of a block, each of four warps
inline constexpr int threads = 128 * warpgroups;

/// Weights of Inner x Columns numbers in shared memory, less what does not exist. A warpgroup computes 64 rows of a
/// share of the columns: small pieces divide evenly among the multiprocessors, and what is read twice is near.
template <int Columns, int Inner>
struct Shape {
  static constexpr int columns = Columns > 64 ? Columns / 2 : Columns;  ///< of a warpgroup
  static constexpr int column_shares = Columns / columns;
  static constexpr int row_shares = warpgroups / column_shares;
  static constexpr int rows = 64 * row_shares;  ///< of a block
  static constexpr int inner = Inner;
  static constexpr int weight_bytes = Columns * Inner * 2;
  /// Squares of 32 x 32 of a weight, along the columns of the product and along the summands.
  static constexpr int squares_across = Columns / 32;
  static constexpr int squares_along = Inner / 32;
  /// From a matrix of 8 x 8 numbers, as the tensor cores take them, to the next one along the summands, and along the
  /// columns of the product.
  static constexpr int along = 128;
  static constexpr int across = Inner / 8 * along;
  static_assert(columns % 32 == 0 && Inner % 32 == 0);
  static_assert(squares_across == warpgroups || (squares_across == 1 && squares_along == warpgroups));
};

struct Term {
  const BFloat16* x;
  const BFloat16* weight;
  unsigned x_stride;
  unsigned weight_stride;
  int inner;
  bool in_out;
};
/// At most `widest` columns of a product.
struct Part {
  BFloat16* y;
  const BFloat16* addend;
  const BFloat16* bias;
  unsigned y_stride;
  unsigned addend_stride;
  int columns;
  int first_term;
  int terms;
};
struct Group {
  Part part[most_parts];
  Term term[most_terms];
  unsigned parts;
  unsigned rows;
};

/// What a thread brings of a weight into shared memory. Of 32 neighbouring columns or summands, number 8 q + 2 m + b
/// goes to place 2 q + b of the m-th of four matrices. So the 8 neighbouring numbers that lane q of four reads or
/// writes are those that the tensor cores want of it, or give it, two from each matrix. What does not exist is 0.
template <class S>
class WeightShare {
public:
  __device__ void fetch(const Term& term, int columns) {
    // A warpgroup takes squares, each of its warps a quarter of the rows as they are stored, in pieces of 8.
    const auto lane = static_cast<int>(threadIdx.x) % 32;
    const int row = lane / 8 * 8 + quarter() * 2 + lane / 4 % 2;
    const int chunk = lane % 4 * 8;
    const int column = first_square_across() * 32 + (term.in_out ? chunk : row);
    const int summand = first_square_along() * 32 + (term.in_out ? row : chunk);
    const unsigned to_next = 32 * (term.in_out ? term.weight_stride : 1);
    const BFloat16* from =
        term.weight + (term.in_out ? summand : column) * term.weight_stride + (term.in_out ? column : summand);
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
      eight_[i] = uint4{};
      if (column < columns && summand + i * 32 < term.inner)
        eight_[i] = *reinterpret_cast<const uint4*>(from + i * to_next);
    }
  }
  __device__ void put(unsigned char* to, bool in_out) const {
    const auto lane = static_cast<int>(threadIdx.x) % 32;
    to += first_square_across() * 4 * S::across + first_square_along() * 4 * S::along;
    if (in_out)
      to += quarter() * S::along + lane % 4 * 32 + lane / 8 * 4 + lane / 4 % 2 * 2;
    else
      to += quarter() * S::across + lane * 4;
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
      const std::uint32_t words[4]{eight_[i].x, eight_[i].y, eight_[i].z, eight_[i].w};
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        if (in_out) {
          unsigned char* at = to + i * 4 * S::along + m * S::across;
          *reinterpret_cast<std::uint16_t*>(at) = static_cast<std::uint16_t>(words[m]);
          *reinterpret_cast<std::uint16_t*>(at + 16) = static_cast<std::uint16_t>(words[m] >> 16);
        } else {
          *reinterpret_cast<std::uint32_t*>(to + (i * 4 + m) * S::along) = words[m];
        }
      }
    }
  }

private:
  static constexpr int rounds = S::squares_across * S::squares_along / warpgroups;
  static __device__ int quarter() { return static_cast<int>(threadIdx.x) / 32 % 4; }
  static __device__ int warpgroup() { return static_cast<int>(threadIdx.x) / 128; }
  static __device__ int first_square_across() { return S::squares_across > 1 ? warpgroup() : 0; }
  static __device__ int first_square_along() { return S::squares_across > 1 ? 0 : warpgroup(); }

  uint4 eight_[rounds];
};

/// The rows that a warp multiplies next: 16, of which a lane has columns of two.
template <int Inner>
struct Rows {
  uint4 low[Inner / 32];
  uint4 high[Inner / 32];

  /// Reads rows behind the last as the last, and columns behind the last as the first ones: weights are 0 there.
  __device__ void fetch(const Term& term, unsigned row, unsigned rows) {
    const auto lane = threadIdx.x % 32;
    const int own = static_cast<int>(lane % 4) * 8;
    const BFloat16* first = term.x + static_cast<std::size_t>(min(row + lane / 4, rows - 1)) * term.x_stride;
    const BFloat16* second = term.x + static_cast<std::size_t>(min(row + lane / 4 + 8, rows - 1)) * term.x_stride;
    const auto read = [&](int c, int column) {
      low[c] = *reinterpret_cast<const uint4*>(first + column);
      high[c] = *reinterpret_cast<const uint4*>(second + column);
    };
    if (term.inner == Inner) {
#pragma unroll
      for (int c = 0; c < Inner / 32; ++c) read(c, own + c * 32);
    } else {
#pragma unroll
      for (int c = 0; c < Inner / 32; ++c) read(c, own + c * 32 < term.inner ? own + c * 32 : 0);
    }
  }
  /// The left factor of 16 of the summands.
  __device__ tensor::Left<16> left(int step) const {
    const uint4& a = low[step / 2];
    const uint4& b = high[step / 2];
    return step % 2 == 0 ? tensor::Left<16>{{a.x, b.x, a.y, b.y}} : tensor::Left<16>{{a.z, b.z, a.w, b.w}};
  }
};

/// sums = or += rows x a weight in shared memory.
template <class S>
__device__ void multiply_rows(tensor::Sums (&sums)[S::columns / 8], const Rows<S::inner>& rows, std::uint32_t weight,
                              bool add) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  const auto factor = tensor::SharedFactor::of_matrices(weight, S::along, S::across);
  tensor::pin(sums);
  tensor::begin_products();
#pragma unroll
  for (int k = 0; k < S::inner / 16; ++k)
    tensor::multiply_add_async<S::columns, false>(sums, rows.left(k), factor.behind(2 * k * S::along), add || k > 0);
  tensor::commit_products();
#else
  if (!add) {
#pragma unroll
    for (tensor::Sums& s : sums) s = {};
  }
  const auto lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint32_t own =
      weight + static_cast<std::uint32_t>(lane % 8 * 16 + lane / 8 % 2 * S::along + lane / 16 * S::across);
#pragma unroll
  for (int k = 0; k < S::inner / 16; ++k) {
#pragma unroll
    for (int n = 0; n < S::columns / 8; n += 2) {
      std::uint32_t right[4];
      tensor::load_matrices<false>(own, 0, 2 * k * S::along + n * S::across, right);
      tensor::multiply_add(sums[n], rows.left(k), tensor::Right<16>{{right[0], right[1]}});
      tensor::multiply_add(sums[n + 1], rows.left(k), tensor::Right<16>{{right[2], right[3]}});
    }
  }
#endif
}
/// Waits for the sums.
template <int Count>
__device__ void finish_products([[maybe_unused]] tensor::Sums (&sums)[Count]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  tensor::wait_for_products();
  tensor::pin(sums);
#endif
}

/// Writes 16 rows from column \p begin on, with \p Adds after adding bias and addend.
template <class S, bool Adds>
__device__ void write_rows(const tensor::Sums (&sums)[S::columns / 8], const Part& part, unsigned row, unsigned rows,
                           int begin) {
  const auto lane = threadIdx.x % 32;
  const int own = begin + static_cast<int>(lane % 4) * 8;
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
    const std::size_t r = row + lane / 4 + half * 8;
    if (r >= rows) break;
    BFloat16* to = part.y + r * part.y_stride + own;
#pragma unroll
    for (int c = 0; c < S::columns / 32; ++c) {
      const int column = own + c * 32;
      if (column >= part.columns) break;
      float y[8];
#pragma unroll
      for (int m = 0; m < 4; ++m)
#pragma unroll
        for (int b = 0; b < 2; ++b) y[2 * m + b] = sums[4 * c + m].value[2 * half + b];
      const auto add = [&](const BFloat16* from) {
        float more[8];
        load(from, more);
#pragma unroll
        for (int i = 0; i < 8; ++i) y[i] += more[i];
      };
      if (Adds && part.bias != nullptr) add(part.bias + column);
      if (Adds && part.addend != nullptr) add(part.addend + r * part.addend_stride + column);
      store(to + c * 32, y);
    }
  }
}

/// Every warpgroup takes 64 rows at a time, their terms one after the other. Grid: blocks, parts.
template <class S>
__global__ void __launch_bounds__(threads, 1) multiply(const __grid_constant__ Group group) {
  extern __shared__ uint4 weights[];
  const Part& part = group.part[blockIdx.y];
  const Term* terms = group.term + part.first_term;
  const unsigned step = gridDim.x * S::rows;
  const unsigned warpgroup = threadIdx.x / 128;
  const int begin = static_cast<int>(warpgroup / S::row_shares) * S::columns;
  unsigned row = blockIdx.x * S::rows + warpgroup % S::row_shares * 64 + threadIdx.x / 32 % 4 * 16;

  Rows<S::inner> rows;
  rows.fetch(terms[0], row, group.rows);
  for (int t = 0; t < part.terms; ++t) {
    WeightShare<S> share;
    share.fetch(terms[t], part.columns);
    share.put(reinterpret_cast<unsigned char*>(weights) + t * S::weight_bytes, terms[t].in_out);
  }
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  show_to_copies();  // products read shared memory as copies do
#endif
  __syncthreads();
  const auto weight =
      static_cast<std::uint32_t>(__cvta_generic_to_shared(weights)) + static_cast<std::uint32_t>(begin / 8 * S::across);
  const bool adds = part.bias != nullptr || part.addend != nullptr;
  // Rows behind the last of a warpgroup are multiplied, too: its warps stay together.
  while (row - threadIdx.x / 32 % 4 * 16 < group.rows && begin < part.columns) {
    tensor::Sums sums[S::columns / 8];
    for (int t = 0; t < part.terms; ++t) {
      multiply_rows<S>(sums, rows, weight + static_cast<std::uint32_t>(t * S::weight_bytes), t > 0);
      finish_products(sums);
      const bool last = t + 1 == part.terms;
      if (!last || row + step < group.rows) rows.fetch(terms[last ? 0 : t + 1], last ? row + step : row, group.rows);
    }
    if (adds)
      write_rows<S, true>(sums, part, row, group.rows, begin);
    else
      write_rows<S, false>(sums, part, row, group.rows, begin);
    row += step;
  }
}

template <int Columns, int Inner>
void launch(Queue& queue, const Group& group, int terms) {
  using S = Shape<Columns, Inner>;
  const unsigned blocks = std::clamp(static_cast<unsigned>(queue.multiprocessors()) / group.parts, 1u,
                                     (group.rows + S::rows - 1) / S::rows);
  queue.launch("products side by side", multiply<S>, dim3(blocks, group.parts), dim3(threads),
               static_cast<std::size_t>(terms * S::weight_bytes), group);
}

inline void start(Queue& queue, const Group& group) {
  int terms = 0;
  int columns = 0;
  int inner = 0;
  for (unsigned p = 0; p < group.parts; ++p) {
    const Part& part = group.part[p];
    terms = std::max(terms, part.terms);
    columns = std::max(columns, part.columns);
    for (int t = 0; t < part.terms; ++t) inner = std::max(inner, group.term[part.first_term + t].inner);
  }
  if (columns <= 32)
    launch<32, widest>(queue, group, terms);
  else if (inner <= 32)
    launch<widest, 32>(queue, group, terms);
  else
    launch<widest, widest>(queue, group, terms);
}

/// Parts of a product's columns and terms.
inline int pieces(int width) { return (width + widest - 1) / widest; }

}  // namespace product_group_detail

/// True where the kernel can take it: all rows begin at multiples of 16 bytes and consist of such pieces. What is wide
/// on both sides gains nothing.
inline bool takes(const GroupedProduct& p) {
  using product_group_detail::widest;
  const auto is_width = [](int width) { return width > 0 && width % 8 == 0 && width <= 2 * widest; };
  const auto aligned = [](const BFloat16* rows, std::size_t stride) {
    return reinterpret_cast<std::uintptr_t>(rows) % 16 == 0 && stride % 8 == 0;
  };
  bool all =
      is_width(p.columns) && aligned(p.y, p.y_stride) && aligned(p.addend, p.addend_stride) && aligned(p.bias, 0);
  for (int t = 0; t < p.terms; ++t) {
    const GroupedProduct::Term& term = p.term[static_cast<std::size_t>(t)];
    all = all && is_width(term.inner) && (p.columns <= widest || term.inner <= widest) &&
          aligned(term.x, term.x_stride) && aligned(term.weight, 0);
  }
  return all;
}

/// Terms of at most 128 columns that a product has in all.
inline int pieces_of_terms(const GroupedProduct& p) {
  int count = 0;
  for (int t = 0; t < p.terms; ++t) count += product_group_detail::pieces(p.term[static_cast<std::size_t>(t)].inner);
  return count;
}
/// The same for which a block has memory.
inline int most_pieces_of_terms(const Queue& queue) {
  using product_group_detail::widest;
  return std::min(GroupedProduct::most_terms, queue.shared_memory_per_block() / (2 * widest * widest));
}

/// True if the products fit into one kernel.
inline bool fit_together(std::span<const GroupedProduct> products) {
  int parts = 0;
  int terms = 0;
  for (const GroupedProduct& p : products) {
    parts += product_group_detail::pieces(p.columns);
    terms += product_group_detail::pieces(p.columns) * pieces_of_terms(p);
  }
  return parts <= product_group_detail::most_parts && terms <= product_group_detail::most_terms;
}

/// Computes products that fit together, none of which reads or writes what another one writes.
inline void multiply_together(Queue& queue, std::span<const GroupedProduct> products, Index rows) {
  using namespace product_group_detail;
  if (rows == 0) return;
  Group group{};
  group.rows = static_cast<unsigned>(rows);
  int terms = 0;
  for (const GroupedProduct& p : products) {
    for (int c = 0; c < p.columns; c += widest) {
      Part& part = group.part[group.parts++];
      part.y = p.y + c;
      part.addend = p.addend != nullptr ? p.addend + c : nullptr;
      part.bias = p.bias != nullptr ? p.bias + c : nullptr;
      part.y_stride = static_cast<unsigned>(p.y_stride);
      part.addend_stride = static_cast<unsigned>(p.addend_stride);
      part.columns = std::min(widest, p.columns - c);
      part.first_term = terms;
      for (int t = 0; t < p.terms; ++t) {
        const GroupedProduct::Term& from = p.term[static_cast<std::size_t>(t)];
        const int stride = from.in_out ? p.columns : from.inner;
        for (int k = 0; k < from.inner; k += widest)
          group.term[terms++] = {.x = from.x + k,
                                 .weight = from.weight + (from.in_out ? Index{k} * stride + c : Index{c} * stride + k),
                                 .x_stride = static_cast<unsigned>(from.x_stride),
                                 .weight_stride = static_cast<unsigned>(stride),
                                 .inner = std::min(widest, from.inner - k),
                                 .in_out = from.in_out};
      }
      part.terms = terms - part.first_term;
    }
  }
  start(queue, group);
}

}  // namespace mad::cuda
