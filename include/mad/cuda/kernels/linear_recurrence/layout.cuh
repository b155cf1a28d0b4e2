// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How the matrix states of a linear recurrence are spread over threads, and how its operands come to them.
///
/// A recurrence "decay, add a_t b_t, read c_t" sums over one side of its state, whose width is `Summed`, and is free
/// along the other, `Free`. With the roles of query, key, value and d_output exchanged it is the output and all of its
/// gradients but those of the decays (see `Sweep`). A thread keeps `tile` numbers along the summed side of one free
/// column in registers; `parts` neighbouring lanes share the column.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/kernels/column_recurrence.cuh>

#include <type_traits>

namespace mad::cuda::recurrence_detail {

/// What a log decay is given per.
enum class Decay { none, head, channel };
/// What the columns of a side are read from.
enum class Side { query, key, value, d_output };

/// What kernels are compiled for: layers of the same sizes share them. Chunks are those of rows of keys,
/// values, outputs (or d_output), and of the gradients of keys and values.
template <int Heads, int Groups, int Key, int Value, bool Normaliser, Decay Kind, bool DecayPerToken, bool Bonus,
          int KeyChunk, int ValueChunk, int OutputChunk, int KeyGradientChunk, int ValueGradientChunk>
struct Sizes {
  static constexpr int heads = Heads, groups = Groups, key = Key, value = Value;
  static constexpr int group = Heads / Groups;  ///< heads that share query and key
  static constexpr bool normaliser = Normaliser, decay_per_token = DecayPerToken, bonus = Bonus;
  static constexpr Decay decay = Kind;
  static constexpr int key_chunk = KeyChunk, value_chunk = ValueChunk, output_chunk = OutputChunk;
  static constexpr int key_gradient_chunk = KeyGradientChunk, value_gradient_chunk = ValueGradientChunk;
  /// Columns of a state: those of the value, and the normaliser's sum of keys, the value of whose column is 1.
  static constexpr int columns = Value + (Normaliser ? 1 : 0);
};

/// Operands in memory; rows are tokens. W and B are the types of log decay and bonus.
template <class T, class W, class B>
struct Operands {
  using Decay = W;
  const T* side[4];  ///< by Side
  unsigned stride[4];
  const W* log_decay;
  unsigned decay_stride;
  const B* bonus;
};

constexpr int round_up(int n, int to) { return (n + to - 1) / to * to; }
/// The distance of rows of at least n numbers in shared memory: an odd multiple of 16 bytes, so that accesses to the
/// same place in eight rows do not meet in a bank.
constexpr int row_stride(int n) { return (n + 3) / 4 / 2 * 8 + 4; }

/// Numbers of shared memory that the tokens of a tile may take, and the tokens that then fit: a power of two.
inline constexpr int staged_numbers = 4096;
inline constexpr int at_once = 4;  ///< tokens that are summed over lanes together
constexpr int tokens_for(int numbers_per_token, int least) {
  int tokens = 32;
  while (tokens > least && tokens * numbers_per_token > staged_numbers) tokens /= 2;
  return tokens;
}

/// Spreads `Heads` states over blocks of about `Wanted` threads. Wide summed sides are cut into slices, each a block of
/// its own, whose sums are added up by another kernel.
template <int Summed_, int Free_, int Heads, int Group, int Wanted>
struct Spread {
  static constexpr int summed = Summed_, free = Free_;
  static constexpr int widest_tile = 20;
  static constexpr int slice = std::min(summed, 512);
  static constexpr int slices = (summed + slice - 1) / slice;

  static constexpr int tile_of(int parts) { return round_up((slice + parts - 1) / parts, 4); }
  /// As few idle numbers as possible; then as many lanes as it takes to fill the device from batch 128 on.
  static constexpr int choose_parts() {
    int best = 0;
    for (int p = 1; p <= 32; p *= 2) {
      if (tile_of(p) > widest_tile) continue;
      const bool fewer = best == 0 || p * tile_of(p) < best * tile_of(best);
      const bool equal = best != 0 && p * tile_of(p) == best * tile_of(best);
      const bool wanted = equal && (Heads * free * p <= 256 || tile_of(best) > 8);
      if (fewer || wanted) best = p;
    }
    return best;
  }
  static constexpr int parts = choose_parts();
  static constexpr int tile = tile_of(parts);
  static constexpr int padded = parts * tile;

  static constexpr int free_tile = free * parts <= 256 ? free : 256 / parts;
  static constexpr int free_tiles = (free + free_tile - 1) / free_tile;
  static constexpr int slot = round_up(free_tile, 4);
  static constexpr int choose_heads() {
    if (free_tiles > 1) return 1;
    if (Group > 1 && slices == 1 && Group * free * parts <= 512) return Group;  // to add up their gradients
    // As few idle lanes as possible, then as many heads.
    int heads = 1;
    for (int h = 2; h <= Heads; ++h) {
      if (Heads % h != 0 || h * free * parts > 256) continue;
      const int now = heads * round_up(h * free * parts, 32);
      const int then = h * round_up(heads * free * parts, 32);
      if (now < then || (now == then && h * free * parts <= Wanted)) heads = h;
    }
    return heads;
  }
  static constexpr int heads = choose_heads();  ///< of a block
  static constexpr int head_blocks = Heads / heads;
  static constexpr int threads = round_up(heads * free_tile * parts, 32);

  static constexpr Index blocks(Index batch) { return batch * head_blocks * free_tiles * slices; }
};

/// What a thread has of the states. Threads without a column take part in sums and loads.
template <class P>
struct Place {
  int slice, free_tile, first_head, sequence;  ///< the block's
  int part, head, column;                      ///< head and column within the block
  bool here;

  __device__ explicit Place(unsigned block) {
    slice = static_cast<int>(block % P::slices);
    block /= P::slices;
    free_tile = static_cast<int>(block % P::free_tiles);
    block /= P::free_tiles;
    first_head = static_cast<int>(block % P::head_blocks) * P::heads;
    sequence = static_cast<int>(block / P::head_blocks);
    const int thread = static_cast<int>(threadIdx.x);
    part = thread % P::parts;
    head = thread / P::parts / P::free_tile;
    column = thread / P::parts % P::free_tile;
    here = head < P::heads && first_free() + column < P::free;
    if (head >= P::heads) head = 0;
  }
  __device__ int first_free() const { return free_tile * P::free_tile; }
  __device__ int first_summed() const { return slice * P::slice; }
  /// Which number along the slice is number i of the tile: neighbouring parts have neighbouring groups of four.
  __device__ static constexpr int along(int part, int i) { return (i / 4 * P::parts + part) * 4 + i % 4; }
};

/// The number of a thread's own column in shared memory, which it will replace by its result. Of `Threads` threads
/// those that have no column share the first one's place and must not look at it.
template <int Threads, class P>
__device__ inline float own_number(const float* row, const Place<P>& at) {
  if constexpr (Threads > P::heads * P::free_tile * P::parts) {
    if (static_cast<int>(threadIdx.x) >= P::heads * P::free_tile * P::parts) return 0;
  }
  return row[at.head * P::slot + at.column];
}

/// A thread's tile of a row in shared memory.
template <class P>
__device__ inline void read_tile(const float* row, int part, float (&x)[P::tile]) {
#pragma unroll
  for (int i = 0; i < P::tile; i += 4) load(row + Place<P>::along(part, i), reinterpret_cast<float(&)[4]>(x[i]));
}

/// Where sums of a side go: rows of tokens, or, where other blocks add to the same ones, parts of rows.
template <class U>
struct Destination {
  U* data = nullptr;
  unsigned stride = 0;
  std::size_t slice_part = 0, head_part = 0;  ///< from one slice, or head of a group, to the next
};

/// `Width` columns of each of a block's heads over a tile of tokens, on their way between global and shared memory
/// through a block of `Threads` threads. `Share` neighbouring heads have the same columns, which lie `Step` apart from
/// those of the next heads.
template <int Heads, int Width, int Share, int Step, int C, int Tokens, int Threads, class T>
struct Strip {
  static constexpr int per_head = (Width + C - 1) / C;

  struct Piece {
    int token, head, column;
    bool here;
  };
  template <int OfHeads>
  __device__ static Piece piece(int round, int tokens, int limit) {
    const int i = round * Threads + static_cast<int>(threadIdx.x);
    const int rest = i / per_head;
    Piece p{rest / OfHeads, rest % OfHeads, i % per_head * C, false};
    p.here = p.token < Tokens && p.token < tokens && p.column < limit && p.column < Width;
    return p;
  }
  template <int OfHeads>
  static constexpr int rounds = (Tokens * OfHeads * per_head + Threads - 1) / Threads;

  /// C numbers as they lie in memory, in as few registers as possible.
  using Raw = std::conditional_t<
      C * sizeof(T) == 16, uint4,
      std::conditional_t<C * sizeof(T) == 8, uint2, std::conditional_t<C * sizeof(T) == 4, unsigned, unsigned short>>>;
  static_assert(sizeof(Raw) == C * sizeof(T));
  Raw raw[rounds<Heads>];

  /// Reads columns `first` to `first + limit` from the rows of `tokens` tokens; what lies beyond is 0.
  __device__ void fetch(const T* rows, unsigned stride, int tokens, int first_head, int first, int limit) {
#pragma unroll
    for (int r = 0; r < rounds<Heads>; ++r) {
      const Piece p = piece<Heads>(r, tokens, limit);
      raw[r] = Raw{};
      if (p.here) {
        const unsigned column = (first_head + p.head) / Share * Step + first + p.column;
        raw[r] = *reinterpret_cast<const Raw*>(rows + (p.token * stride + column));
      }
    }
  }
  /// Writes f of the numbers to shared memory.
  template <class F>
  __device__ void put(float* to, int token_stride, int head_stride, int limit, const F& f) const {
#pragma unroll
    for (int r = 0; r < rounds<Heads>; ++r) {
      const Piece p = piece<Heads>(r, Tokens, limit);
      if (!p.here) continue;
      const auto& number = reinterpret_cast<const mad::cuda::Chunk<T, C>&>(raw[r]).value;
      float x[C];
#pragma unroll
      for (int i = 0; i < C; ++i) x[i] = f(to_float(number[i]));
      store(to + p.token * token_stride + p.head * head_stride + p.column, x);
    }
  }
  /// Writes what lies in shared memory, added up over heads in neighbouring slots if `Together` of them share their
  /// columns, to the rows of `tokens` tokens.
  template <int Together, class U>
  __device__ static void store_rows(const float* from, int token_stride, int head_stride, const Destination<U>& to,
                                    std::size_t row, int tokens, int slice, int first_head, int first, int limit) {
    U* rows = to.data + slice * to.slice_part + row * to.stride;
#pragma unroll
    for (int r = 0; r < rounds<Heads / Together>; ++r) {
      const Piece p = piece<Heads / Together>(r, tokens, limit);
      if (!p.here) continue;
      const int head = first_head + p.head * Together;
      const float* slot = from + p.token * token_stride + p.head * Together * head_stride + p.column;
      float sum[C];
      load(slot, sum);
#pragma unroll
      for (int s = 1; s < Together; ++s) {
        float next[C];
        load(slot + s * head_stride, next);
#pragma unroll
        for (int i = 0; i < C; ++i) sum[i] += next[i];
      }
      const unsigned column = head / Share * Step + first + p.column;
      store(rows + head % Share * to.head_part + (p.token * to.stride + column), sum);
    }
  }
};

struct Same {
  __device__ float operator()(float x) const { return x; }
};

/// One side of the recurrence in shared memory, with the column of the normaliser where values have one: 1 in the
/// value, the normaliser's gradient in d_output.
template <class S, Side Which, int Heads, int Width, int Tokens, int Threads, class T>
struct SideStrip {
  static constexpr bool of_key = Which == Side::query || Which == Side::key;
  static constexpr bool has_last = !of_key && S::normaliser;
  static constexpr int index = static_cast<int>(Which);
  template <int C>
  using Columns = Strip<Heads, Width, of_key ? S::group : 1, of_key ? S::key : S::value, C, Tokens, Threads, T>;
  using Main = Columns<of_key ? S::key_chunk : Which == Side::value ? S::value_chunk : S::output_chunk>;
  using Last = Strip<Heads, 1, 1, 1, 1, Tokens, Threads, T>;
  static constexpr int width = of_key ? S::key : S::value;
  Main main;
  Last last;

  template <class O>
  __device__ void fetch(const O& o, std::size_t row, int tokens, int first_head, int first) {
    const T* rows = o.side[index] + row * o.stride[index];
    main.fetch(rows, o.stride[index], tokens, first_head, first, width - first);
    if constexpr (has_last && Which == Side::d_output)
      last.fetch(rows + S::heads * S::value, o.stride[index], tokens, first_head, 0, 1);
  }
  __device__ void put(float* to, int token_stride, int head_stride, int first) const {
    main.put(to, token_stride, head_stride, width - first, Same{});
    if constexpr (has_last) {
      const int column = S::value - first;
      if (column < 0 || column >= Width) return;
      if constexpr (Which == Side::d_output)
        last.put(to + column, token_stride, head_stride, 1, Same{});
      else
        for (int i = static_cast<int>(threadIdx.x); i < Tokens * Heads; i += Threads)
          to[i / Heads * token_stride + i % Heads * head_stride + column] = 1;
    }
  }
  /// The side's columns of the tile from shared memory to `to`.
  template <int Together, class U>
  __device__ static void store_rows(const float* from, int token_stride, int head_stride, const Destination<U>& to,
                                    std::size_t row, int tokens, int slice, int first_head, int first) {
    // Instead of the value it is the output that leaves, instead of d_output d_value.
    using Result = Columns<of_key                 ? S::key_gradient_chunk
                           : Which == Side::value ? S::output_chunk
                                                  : S::value_gradient_chunk>;
    Result::template store_rows<Together>(from, token_stride, head_stride, to, row, tokens, slice, first_head, first,
                                          width - first);
    if constexpr (has_last && Which == Side::value) {  // the output's
      const int column = S::value - first;
      if (column < 0 || column >= Width) return;
      Last::template store_rows<1>(from + column, token_stride, head_stride, to, row, tokens, slice, first_head,
                                   S::heads * S::value, 1);
    }
  }
};

}  // namespace mad::cuda::recurrence_detail
