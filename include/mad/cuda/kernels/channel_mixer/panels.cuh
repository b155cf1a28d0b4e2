// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The weights of a channel mixer's kernel where four warps multiply together (compute capability 9.0): how their parts
/// come to shared memory, and the products. `M` is the mixer (kernel.cuh). A warp of its own has the copy engine
/// bring part after part; the others say when they are done with one, and never wait for each other.
#pragma once

#include <mad/cuda/device/tensor_map.hpp>
#include <mad/cuda/instructions/tensor_copy.cuh>
#include <mad/cuda/instructions/warpgroup.cuh>
#include <mad/cuda/kernels/channel_mixer/products.cuh>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace mad::cuda::channel_mixer_detail {

/// Four warps behind those that compute, of which one thread copies: registers are shared out to warps by fours, and
/// those that compute get what these do not need.
inline constexpr int copying_threads = 128;
inline constexpr int copying_registers = 24;
inline constexpr int computing_registers = 240;
static_assert(copying_threads * copying_registers + threads * computing_registers <= 1 << 16);
/// Threads of a block, in the code that is compiled.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr int block_threads = threads + copying_threads;
#else
inline constexpr int block_threads = threads;
#endif

/// A part of weight W in shared memory: panels of so many columns, each a box of the copy engine.
template <class M, int W>
struct Panel {
  using P = Part<M, W>;
  static constexpr bool inside_rows = P::inside_rows;
  static constexpr int rows = P::rows;
  static constexpr int columns = P::columns % 64 == 0 ? 64 : P::columns % 32 == 0 ? 32 : 16;
  static constexpr int count = P::columns / columns;
  static constexpr int row_bytes = 2 * columns;
  static constexpr int bytes = rows * row_bytes;
};

/// Where the panels of all weights lie. Two weights with rows of the inside that multiply the same input one after the
/// other lie side by side, panel by panel: one product computes both.
struct PanelPlaces {
  int begin[channel_mixer::most_weights]{};
  int to_next[channel_mixer::most_weights]{};      ///< from a panel to the next
  bool with_next[channel_mixer::most_products]{};  ///< this way in and the next are one product
  int bytes = 0;
  int part_bytes = 0;  ///< of all panels, without gaps
};

template <class M, int... W>
constexpr PanelPlaces make_panel_places(std::integer_sequence<int, W...>) {
  constexpr int panel_bytes[] = {Panel<M, W>::bytes...};
  constexpr int weight_bytes[] = {Panel<M, W>::bytes * Panel<M, W>::count...};
  PanelPlaces places;
  places.part_bytes = (0 + ... + (Panel<M, W>::bytes * Panel<M, W>::count));
  bool placed[channel_mixer::most_weights]{};
  const auto place = [&](int w, int weights) {
    places.begin[w] = places.bytes;
    places.to_next[w] = weights * panel_bytes[w];
    placed[w] = true;
  };
  const auto add_bytes = [&](int bytes) { places.bytes += (bytes + 1023) / 1024 * 1024; };
  for (int l = 0; l + 1 < M::form.ways_in; ++l) {
    const int w = M::form.in[l].weight;
    const int next = M::form.in[l + 1].weight;
    if (w == next || placed[w] || placed[next] || M::form.in[l].input != M::form.in[l + 1].input ||
        !M::form.weight[w].inside_rows || !M::form.weight[next].inside_rows)
      continue;
    places.with_next[l] = true;
    place(w, 2);
    place(next, 2);
    places.begin[next] += panel_bytes[w];
    add_bytes(2 * weight_bytes[w]);
  }
  for (int w = 0; w < M::form.weights; ++w) {
    if (placed[w]) continue;
    place(w, 1);
    add_bytes(weight_bytes[w]);
  }
  return places;
}

/// Shared memory of a block: stages for parts of the weights, two barriers for each, and the rows of the warps.
template <class M>
struct PanelMemory {
  using Weights = std::make_integer_sequence<int, M::form.weights>;
  static constexpr PanelPlaces places = make_panel_places<M>(Weights{});
  static constexpr int stage_bytes = places.bytes;
  static constexpr int part_bytes = places.part_bytes;
  template <int W>
  static constexpr int begin = places.begin[W];
  template <int W>
  static constexpr int to_next = places.to_next[W];
  template <int L>
  static constexpr bool with_next = places.with_next[L];
  static constexpr int alignment = 1024;  ///< of a stage: the swizzle's pattern begins anew
  static constexpr int most = 227 * 1024;
  static constexpr int rows_bytes = 2 * StagedRows<M>::shared_size;
  static constexpr int stages =
      std::min(8, (most - alignment - rows_bytes) / (stage_bytes + 2 * TransferBarrier::size));
  static constexpr int rows_begin = stages * stage_bytes;
  static constexpr int barriers_begin = rows_begin + rows_bytes;
  static constexpr int bytes = alignment + barriers_begin + 2 * stages * TransferBarrier::size;
  static_assert(stages >= 3 && rows_bytes % TransferBarrier::size == 0);
};

/// Describes what the copy engine moves: of the weights panels, of members a warp's rows.
template <class M>
void describe_boxes(typename M::Memory& memory) {
  const auto describe = [&]<int W>(std::integral_constant<int, W>) {
    using P = Panel<M, W>;
    constexpr int outside = Part<M, W>::outside;
    memory.map[W] = tensor_map(memory.weight[W], P::inside_rows ? M::inside : outside,
                               P::inside_rows ? outside : M::inside, Part<M, W>::stored_columns, P::rows, P::columns);
  };
  [&]<int... W>(std::integer_sequence<int, W...>) { (describe(std::integral_constant<int, W>{}), ...); }
  (std::make_integer_sequence<int, M::form.weights>{});
  if constexpr (M::alignment >= 16)
    for (int s = 0; s < M::stored_members; ++s)
      memory.member_map[s] =
          tensor_map(memory.member[s], memory.rows, M::inside, M::form.member_stride[s], rows_per_warp, M::columns);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The stages as they are filled and read, in turn.
template <class M>
class PanelStages {
public:
  using Memory = PanelMemory<M>;
  static constexpr int stages = Memory::stages;

  /// A stage, and the parity of the phase in which it is filled.
  struct Turn {
    int stage = 0;
    int parity = 0;
    __device__ void advance() {
      const bool last = ++stage == stages;
      if (last) stage = 0;
      if (last) parity ^= 1;
    }
  };

  __device__ explicit PanelStages(std::uint32_t shared) : shared_(shared) {}

  /// One thread does this, before a barrier of the block.
  __device__ void start() const {
    for (int stage = 0; stage < stages; ++stage) {
      full(stage).start(1);
      empty(stage).start(threads / 32);
    }
    show_barriers();
  }
  /// Waits until the stage is free, and starts to copy part \p part. One thread does this.
  __device__ void fill(Turn turn, const typename M::Memory& memory, int part) const {
    empty(turn.stage).wait(turn.parity ^ 1);
    full(turn.stage).arrive_and_expect(Memory::part_bytes);
    copy(turn.stage, memory, part, typename Memory::Weights{});
  }
  __device__ void wait(Turn turn) const { full(turn.stage).wait(turn.parity); }
  /// This warp is done with a stage.
  __device__ void release(int stage) const {
    if (threadIdx.x % 32 == 0) empty(stage).arrive();
  }
  __device__ std::uint32_t at(int stage) const { return shared_ + stage * Memory::stage_bytes; }

private:
  __device__ TransferBarrier full(int stage) const {
    return TransferBarrier(shared_ + Memory::barriers_begin + stage * TransferBarrier::size);
  }
  __device__ TransferBarrier empty(int stage) const { return full(stages + stage); }

  template <int... W>
  __device__ void copy(int stage, const typename M::Memory& memory, int part, std::integer_sequence<int, W...>) const {
    (copy_part<W>(stage, memory, part), ...);
  }
  template <int W>
  __device__ void copy_part(int stage, const typename M::Memory& memory, int part) const {
    using P = Panel<M, W>;
    const int row = P::inside_rows ? part * M::columns : 0;
    const int column = P::inside_rows ? 0 : part * M::columns;
#pragma unroll
    for (int panel = 0; panel < P::count; ++panel)
      copy_box(at(stage) + Memory::template begin<W> + panel * Memory::template to_next<W>, memory.map[W], row,
               column + panel * P::columns, full(stage));
  }

  std::uint32_t shared_;
};

/// Products by four warps together: all columns of the inside that are in shared memory at a time.
template <class M>
struct WarpgroupProducts {
  using Memory = PanelMemory<M>;
  static constexpr int group = M::columns;
  static constexpr int tiles = group / 8;

  /// The product that load L is, with the next one where they are one.
  template <int L>
  static __device__ void way_in(std::uint32_t stage, const typename M::Inputs& input,
                                tensor::Sums (&sums)[M::loads][tiles]) {
    if constexpr (!is_with_one_before<L>()) {
      constexpr int columns = group * (Memory::template with_next<L> ? 2 : 1);
      constexpr int w = M::form.in[L].weight;
      constexpr int i = M::form.in[L].input;
      using F = Factor<w, Part<M, w>::inside_rows>;
      const tensor::SharedFactor factor = F::of(stage);
#pragma unroll
      for (int s = 0; s < M::template steps<i>; ++s)
        tensor::multiply_add_async<columns, F::transposed>(
            &sums[0][0] + L * tiles, input[M::template first_step<i> + s], factor.behind(F::summand(16 * s)), s > 0);
    }
  }
  template <int O>
  static __device__ void way_out(std::uint32_t stage, bool add, const std::uint32_t (&inner)[tiles][2],
                                 typename M::Result& result) {
    constexpr int w = M::form.out[O].weight;
    using F = Factor<w, !Part<M, w>::inside_rows>;
    const tensor::SharedFactor factor = F::of(stage);
#pragma unroll
    for (int s = 0; s < group / 16; ++s) {
      const tensor::Left<16> left{{inner[2 * s][0], inner[2 * s][1], inner[2 * s + 1][0], inner[2 * s + 1][1]}};
      columns_out<F, 0>(result, left, factor.behind(F::summand(16 * s)), add || O > 0 || s > 0);
    }
  }

private:
  template <int L>
  static __device__ constexpr bool is_with_one_before() {
    if constexpr (L > 0) return Memory::template with_next<L - 1>;
    return false;
  }

  /// Weight W as right factor: the rows of its part are the product's columns, or else its summands.
  template <int W, bool RowsAreColumns>
  struct Factor {
    using P = Panel<M, W>;
    static constexpr bool transposed = !RowsAreColumns;
    static constexpr int to_next = Memory::template to_next<W>;
    static __device__ tensor::SharedFactor of(std::uint32_t stage) {
      return tensor::SharedFactor::at(stage + Memory::template begin<W>, P::row_bytes, to_next);
    }
    /// Bytes to a row, and to a column, that is a multiple of 16.
    static __device__ constexpr int row(int r) { return r * P::row_bytes; }
    static __device__ constexpr int column(int c) { return c / P::columns * to_next + 2 * (c % P::columns); }
    static __device__ constexpr int summand(int s) { return RowsAreColumns ? column(s) : row(s); }
    static __device__ constexpr int product_column(int c) { return RowsAreColumns ? row(c) : column(c); }
  };

  /// The columns from `From` on: 128 at a time, or powers of two.
  template <class F, int From>
  static __device__ void columns_out(typename M::Result& result, const tensor::Left<16>& left,
                                     tensor::SharedFactor factor, bool add) {
    constexpr int rest = M::result_width - From;
    constexpr int columns = rest >= 128 ? 128 : rest >= 64 ? 64 : rest >= 32 ? 32 : 16;
    tensor::multiply_add_async<columns, F::transposed>(result + From / 8, left, factor.behind(F::product_column(From)),
                                                       add);
    if constexpr (From + columns < M::result_width) columns_out<F, From + columns>(result, left, factor, add);
  }
};

#endif

}  // namespace mad::cuda::channel_mixer_detail
