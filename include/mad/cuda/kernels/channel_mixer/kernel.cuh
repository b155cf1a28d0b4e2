// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A channel mixer (graph/channel_mixer.hpp) as one kernel on the tensor cores:
///
///     y = f(x A_1, ..., x A_m) B + addend      forward
///     dx = sum over k of g_k(x A_1, ..., dy B') A_k'      backward, where f's arguments are computed again
///
/// with x and y of (rows, at most 128 columns), A_k (outside, inside), B (inside, outside), and f, g_k functions of
/// single numbers. Forward x may be the norm of what is read (factor_norm.cuh). Where rows are many, and code for
/// `90a`, the gradient of such a norm is made of dx in the same kernel (channel_mixer/gradient_behind.cuh). A warp has
/// 16 rows of x (and dy) in registers, and their sums of y. It goes through the inside part by part (16 or 32 columns):
/// products in, the elementwise nodes, products out. What lies inside leaves the registers only where others read it.
/// The weights' parts go through shared memory, some of them ahead.
#pragma once

#include <mad/cuda/device/grouped_product.hpp>
#include <mad/cuda/device/tensor_map.hpp>
#include <mad/cuda/kernels/channel_mixer/gradient_behind.cuh>
#include <mad/cuda/kernels/channel_mixer/panels.cuh>
#include <mad/cuda/kernels/channel_mixer/products.cuh>
#include <mad/cuda/kernels/channel_mixer/rows.cuh>
#include <mad/cuda/kernels/elementwise.cuh>
#include <mad/cuda/products/factor_norm.cuh>
#include <mad/cuda/products/norm_gradient_rows.cuh>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace mad::cuda {

/// A channel mixer of a lowered layer's plan. `HasGradient`: in the form with the gradient of a norm behind.
template <class Low, int StepIndex, class P, bool HasGradient = false>
struct Mixer {
  using Run = elementwise::Run<Low, StepIndex, P>;
  using Maker = MixerMaker<Low, StepIndex, P, Run>;
  static constexpr auto form = Maker::make_form();
  static constexpr auto places = Maker::make_places();
  static constexpr int reads = places.reads;
  static constexpr int writes = places.writes;
  static_assert(std::is_same_v<typename P::Activation, BFloat16> && form.is_short);

  static constexpr int loads = Run::loads;
  static constexpr int members = Run::members;
  static constexpr int inside = form.inside;
  /// Columns of the inside that are in shared memory together: a part.
  static constexpr int columns =
      inside % 32 == 0 && channel_mixer_detail::outside_of(form) <= channel_mixer_detail::most_outside ? 32 : 16;
  static constexpr int parts = inside / columns;
  static constexpr int result_width = form.result_width;
  static constexpr int result_stride = HasGradient ? form.gradient.dx_stride : form.result_stride;
  static constexpr int alignment = HasGradient ? std::min(form.alignment, form.gradient.alignment) : form.alignment;
  static constexpr int stored_members = form.stored_members;
  /// An addend that has not been read for the products.
  static constexpr bool reads_addend = form.has_addend && !form.adds_x;
  /// Rows as wide as the result that are read for the end only: an addend, or what the norm behind is of.
  static constexpr bool reads_late = reads_addend || HasGradient;
  static constexpr int late_stride = HasGradient ? form.gradient.x_stride : form.addend_stride;

  struct Memory {
    const BFloat16* input[channel_mixer::most_inputs];
    const BFloat16* weight[channel_mixer::most_weights];
    const BFloat16* late;
    const float* norm_weight;
    const float* norm_bias;
    BFloat16* normed;  ///< what the norm computes
    float norm_epsilon;
    bool norm_is_centred;
    float* partial;  ///< sums of each block for the gradients of the norm's parameters
    BFloat16* member[stored_members > 0 ? stored_members : 1];
    BFloat16* result;
    unsigned rows;
    CUtensorMap map[form.weights];  ///< of the weights, for the copy engine
    CUtensorMap member_map[stored_members > 0 ? stored_members : 1];
  };

  /// Of 16 summands each, over the columns of an input; the first of them among those of both inputs.
  template <int I>
  static constexpr int steps = form.input_width[I] / 16;
  template <int I>
  static constexpr int first_step = I == 0 ? 0 : steps<0>;

  using Inputs = tensor::Left<16>[steps<0> + steps<1>];
  using Result = tensor::Sums[result_width / 8];
  /// Rows as wide as the result, as they are read and written.
  using WholeRows = tensor::Left<16>[result_width / 16];
  using GradientBehind =
      std::conditional_t<HasGradient, channel_mixer_detail::GradientBehind<Mixer>, channel_mixer_detail::NothingBehind>;

  /// The part that comes as number \p p to single warps. Thread blocks begin with different parts, so that not all
  /// multiprocessors ask for the same memory at the same time; but where something is stored by parts, neighbours are
  /// written together.
  static __device__ int part_of(int p) { return stored_members > 0 ? p : static_cast<int>((blockIdx.x + p) % parts); }

  /// The elementwise nodes of some tiles of 8 columns.
  template <int Tiles, int... L, int... M>
  static __device__ void evaluate(const tensor::Sums (&sums)[loads][Tiles], tensor::Sums (&inner)[members][Tiles],
                                  std::integer_sequence<int, L...>, std::integer_sequence<int, M...>) {
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile) {
      float value[loads + members][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) ((value[L][i] = sums[L][tile].value[i]), ...);
      (elementwise::evaluate<form.run.member[M].arity, typename Run::template FormulaOf<M>, typename Run::Number>(
           Run::template number<M>, value[Run::template Constant<form.run.member[M].a>::value],
           value[Run::template Constant<form.run.member[M].b>::value], value[loads + M]),
       ...);
#pragma unroll
      for (int i = 0; i < 4; ++i) ((inner[M][tile].value[i] = value[loads + M][i]), ...);
    }
  }
  /// What products and memory take.
  template <int Tiles>
  static __device__ void pack(const tensor::Sums (&inner)[members][Tiles], std::uint32_t (&packed)[members][Tiles][2]) {
#pragma unroll
    for (int m = 0; m < members; ++m) {
#pragma unroll
      for (int tile = 0; tile < Tiles; ++tile) {
        const float(&value)[4] = inner[m][tile].value;
        packed[m][tile][0] = tensor::pack(value[0], value[1]);
        packed[m][tile][1] = tensor::pack(value[2], value[3]);
      }
    }
  }

  /// Reads a warp's rows by `read(input)`, and computes what the products read if that is a norm of them.
  template <class Read>
  static __device__ void read_inputs(const Memory& memory, Inputs& input, WholeRows& addend, const Read& read) {
    if constexpr (form.has_norm) {
      FactorNorm<form.input_width[0], form.is_centred, form.has_bias> norm;
      norm.load(memory.norm_weight, memory.norm_bias);
      read(input);
      if constexpr (form.adds_x) {
#pragma unroll
        for (int s = 0; s < result_width / 16; ++s) addend[s] = input[s];
      }
      norm.apply(input, static_cast<float>(form.epsilon));
    } else {
      read(input);
    }
  }
  /// A warp's result as it is stored.
  static __device__ void pack_result(const Result& result, const WholeRows& addend, WholeRows& packed) {
#pragma unroll
    for (int s = 0; s < result_width / 16; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        float sum[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          sum[i] = result[2 * s + part / 2].value[part % 2 * 2 + i];
          if constexpr (form.has_addend) sum[i] += tensor::number_of(addend[s].part[part], i);
        }
        packed[s].part[part] = tensor::pack(sum[0], sum[1]);
      }
    }
  }

  /// The rows of a block, by warps each for themselves.
  template <int... L, int... M, int... O>
  static __device__ void compute_by_warps(const Memory& memory, BFloat16* shared,
                                          std::integer_sequence<int, L...> all_loads,
                                          std::integer_sequence<int, M...> all_members,
                                          std::integer_sequence<int, O...>) {
    using Products = channel_mixer_detail::WarpProducts<Mixer>;
    using Stage = typename Products::Stage;
    constexpr int ahead = channel_mixer_detail::ahead;
    constexpr int stages = Products::stages;
    constexpr int tiles = Products::group / 8;
    Stage weights(memory);
    weights.fill_first(shared);
    channel_mixer_detail::DirectRows<Mixer> rows(memory);
    Inputs input;
    WholeRows addend;
    read_inputs(memory, input, addend, [&](Inputs& to) { rows.load(to); });
    if constexpr (form.stores_norm) rows.store_norm(input);
    Result result{};
    int stage = 0;
#pragma unroll 1
    for (int p = 0; p < parts; ++p) {
      wait_for_copies<ahead - 1>();
      __syncthreads();  // all have copied their parts, and are done with the stage that is filled next
      weights.advance();
      if (p + ahead < parts) weights.fill(shared + (stage == 0 ? stages - 1 : stage - 1) * Stage::size);
      commit_copies();
      const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared + stage * Stage::size));
#pragma unroll
      for (int first = 0; first < columns; first += Products::group) {
        tensor::Sums sums[loads][tiles];
        (Products::template way_in<L>(address, first, input, sums[L]), ...);
        tensor::Sums values[members][tiles];
        evaluate(sums, values, all_loads, all_members);
        std::uint32_t inner[members][tiles][2];
        pack(values, inner);
        (Products::template way_out<O>(address, first, inner[form.out[O].member], result), ...);
        rows.store_members(part_of(p) * columns + first, inner, std::make_integer_sequence<int, stored_members>{});
      }
      stage = stage == stages - 1 ? 0 : stage + 1;
    }
    wait_for_copies<0>();
    if constexpr (reads_addend) rows.read_late(addend);
    WholeRows packed;
    pack_result(result, addend, packed);
    rows.store_result(packed);
  }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Stages = channel_mixer_detail::PanelStages<Mixer>;
  using StagedRows = channel_mixer_detail::StagedRows<Mixer>;

  /// The same by four warps together, which go their own way; a warp of its own has the weights copied. A block goes on
  /// to other rows until there are none, and weights come anew for each.
  template <class... Lists>
  static __device__ void compute_by_warpgroups(const Memory& memory, BFloat16* shared, Lists... lists) {
    constexpr unsigned threads = channel_mixer_detail::threads;
    const Stages weights(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared)));
    StagedRows rows(memory, shared + Stages::Memory::rows_begin / 2);
    const unsigned blocks = channel_mixer_detail::blocks_of(memory.rows);
    const bool computes = threadIdx.x < threads;
    typename Stages::Turn turn;
    if (computes) rows.start_to_load(blockIdx.x);
    if (threadIdx.x == threads) weights.start();
    __syncthreads();
    if (computes) {
      tensor::get_registers<channel_mixer_detail::computing_registers>();
      GradientBehind gradient;
      for (unsigned block = blockIdx.x; block < blocks; block += gridDim.x)
        compute_rows(weights, turn, rows, gradient, block, lists...);
      rows.finish();
      if constexpr (HasGradient) gradient.store_sums(rows.room_for_sums());
    } else {
      tensor::give_registers<channel_mixer_detail::copying_registers>();
      for (unsigned block = blockIdx.x; threadIdx.x == threads && block < blocks; block += gridDim.x) {
#pragma unroll 1
        for (int p = 0; p < parts; ++p, turn.advance()) weights.fill(turn, memory, p);
      }
    }
    if constexpr (HasGradient) {
      __syncthreads();
      constexpr unsigned sums = norm_gradient_product::sums;
      static_assert(threads >= sums);
      float* partial = memory.partial + blockIdx.x * sums;
      if (threadIdx.x < sums)
        partial[threadIdx.x] = norm_gradient_product::sum_of_warps<threads / 32>(
            rows.room_of_first_warp(), StagedRows::warp_size / 2, static_cast<int>(threadIdx.x));
    }
  }

  /// The rows of a block. Products into a part begin before those out of the part before: while these go on, members
  /// are stored and the nodes are computed. Products read registers until they are done, so what goes out next is
  /// packed then.
  template <int... L, int... M, int... O>
  static __device__ void compute_rows(const Stages& weights, typename Stages::Turn& turn, StagedRows& rows,
                                      [[maybe_unused]] GradientBehind& gradient, unsigned block,
                                      std::integer_sequence<int, L...> all_loads,
                                      std::integer_sequence<int, M...> all_members, std::integer_sequence<int, O...>) {
    using Products = channel_mixer_detail::WarpgroupProducts<Mixer>;
    constexpr int tiles = columns / 8;
    constexpr auto stored = std::make_integer_sequence<int, stored_members>{};
    Inputs input;
    WholeRows addend;
    read_inputs(rows.memory, input, addend, [&](Inputs& to) { rows.load(to, block); });
    Result result{};
    tensor::Sums sums[loads][tiles];
    tensor::Sums values[members][tiles];
    std::uint32_t inner[members][tiles][2];
    const auto begin_ways_in = [&] {
      weights.wait(turn);
      tensor::begin_products();
      (Products::template way_in<L>(weights.at(turn.stage), input, sums), ...);
      tensor::commit_products();
    };
    const auto begin_ways_out = [&](int p, int stage) {
      (Products::template way_out<O>(weights.at(stage), p > 0, inner[form.out[O].member], result), ...);
      tensor::commit_products();
      rows.put_members(inner, stored);
    };
    const auto evaluate_sums = [&] {
#pragma unroll
      for (int l = 0; l < loads; ++l) tensor::pin(sums[l]);
      evaluate(sums, values, all_loads, all_members);
    };
    const auto pack_values = [&] {
      (tensor::pin(values[form.out[O].member]), ...);
      pack(values, inner);
      (tensor::pin(inner[form.out[O].member]), ...);
    };
    begin_ways_in();
    if constexpr (form.stores_norm) rows.store_norm(input);
    rows.load_ahead(block + gridDim.x);
    tensor::wait_for_products();
    evaluate_sums();
    pack_values();
#pragma unroll 1
    for (int p = 0; p + 1 < parts; ++p) {
      const int stage = turn.stage;
      turn.advance();
      begin_ways_in();
      begin_ways_out(p, stage);
      tensor::wait_for_products<1>();
      rows.send_members(p * columns, stored);
      evaluate_sums();
      tensor::wait_for_products();
      weights.release(stage);
      pack_values();
    }
    tensor::begin_products();
    begin_ways_out(parts - 1, turn.stage);
    rows.send_members((parts - 1) * columns, stored);
    if constexpr (reads_late) rows.read_late(addend);
    tensor::wait_for_products();
    tensor::pin(result);
    weights.release(turn.stage);
    turn.advance();
    WholeRows packed;
    if constexpr (HasGradient)
      gradient.compute(rows.memory, rows.first_row, addend, result, input + first_step<form.gradient.addend>, packed);
    else
      pack_result(result, addend, packed);
    rows.store_result(packed);
  }
#endif

  // On the host (channel_mixer.cuh).
  static void run(const Context<P>& context, const Place* at);
  static Memory locate_all(const Context<P>& context, const Place* at);
  static void launch(Queue& queue, const Memory& located);

private:
  static bool put_off_for_gradient(const Context<P>& context, const Place* at);
  static bool takes(const PutOffStep& step, const BFloat16* dy, std::size_t dy_stride, const NormGradient& norm);
  static void start(const PutOffStep& step, const NormGradient* norm, float* partial);
};

/// The form with a gradient is in code for `90a` only, and says so by its number of threads.
template <class Low, int StepIndex, class P, bool HasGradient>
__global__ void __launch_bounds__(channel_mixer_detail::block_threads, 1)
    mixer_kernel(const __grid_constant__ typename Mixer<Low, StepIndex, P, HasGradient>::Memory memory) {
  using M = Mixer<Low, StepIndex, P, HasGradient>;
  extern __shared__ float4 dynamic_memory[];
  const auto compute = [&](auto... all) {
    [[maybe_unused]] BFloat16* shared = reinterpret_cast<BFloat16*>(dynamic_memory);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    constexpr unsigned alignment = channel_mixer_detail::PanelMemory<M>::alignment;
    shared += (alignment - __cvta_generic_to_shared(shared) % alignment) % alignment / 2;
    M::compute_by_warpgroups(memory, shared, all...);
#else
    if constexpr (!HasGradient) M::compute_by_warps(memory, shared, all...);
#endif
  };
  compute(std::make_integer_sequence<int, M::loads>{}, std::make_integer_sequence<int, M::members>{},
          std::make_integer_sequence<int, M::form.ways_out>{});
}

}  // namespace mad::cuda
