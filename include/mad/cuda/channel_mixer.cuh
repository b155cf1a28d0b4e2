// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A channel mixer (graph/channel_mixer.hpp) as one kernel on the tensor cores:
///
///     y = f(x A_1, ..., x A_m) B + addend      forward
///     dx = sum over k of g_k(x A_1, ..., dy B') A_k'      backward, where f's arguments are computed again
///
/// A warp has 16 rows of x (and dy) in registers, and their sums of y. It goes through the inside 16 columns at a time:
/// products in, the elementwise nodes, products out. What lies inside leaves the registers only where others read it.
/// The weights' parts of 32 columns of the inside go through shared memory, two blocks ahead.
#pragma once

#include <mad/cuda/channel_mixer_products.cuh>
#include <mad/cuda/elementwise.cuh>

#include <cstdint>
#include <utility>

namespace mad::cuda {

namespace channel_mixer_detail {

/// Two neighbouring numbers of a row.
template <int Alignment>
__device__ inline std::uint32_t load_two(const BFloat16* from) {
  if constexpr (Alignment >= 4) {
    return *reinterpret_cast<const std::uint32_t*>(from);
  } else {
    const std::uint32_t low = *reinterpret_cast<const std::uint16_t*>(from);
    return low | static_cast<std::uint32_t>(*reinterpret_cast<const std::uint16_t*>(from + 1)) << 16;
  }
}
template <int Alignment>
__device__ inline void store_four(BFloat16* to, std::uint32_t low, std::uint32_t high) {
  if constexpr (Alignment >= 8) {
    *reinterpret_cast<uint2*>(to) = {low, high};
  } else {
    std::uint16_t* p = reinterpret_cast<std::uint16_t*>(to);
    p[0] = static_cast<std::uint16_t>(low);
    p[1] = static_cast<std::uint16_t>(low >> 16);
    p[2] = static_cast<std::uint16_t>(high);
    p[3] = static_cast<std::uint16_t>(high >> 16);
  }
}

/// Stores a row's 16 columns, of which lane q of its four has 2q, 2q + 1 of the first eight and of the second: the
/// lanes exchange them so that each has four neighbours. \p to is the first of the 16.
template <int Alignment>
__device__ inline void store_columns(BFloat16* to, std::uint32_t first, std::uint32_t second, bool here) {
  const unsigned q = threadIdx.x % 4;
  const bool right = q >= 2;
  const bool odd = q % 2 != 0;
  const std::uint32_t across = __shfl_xor_sync(0xffffffffu, right ? first : second, 2);
  const std::uint32_t low = right ? across : first;
  const std::uint32_t high = right ? second : across;
  const std::uint32_t beside = __shfl_xor_sync(0xffffffffu, odd ? low : high, 1);
  if (here) store_four<Alignment>(to + 4 * q, odd ? beside : low, odd ? high : beside);
}

}  // namespace channel_mixer_detail

/// A channel mixer of a lowered layer's plan.
template <class Low, int StepIndex, class P>
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
  static constexpr int columns = inside % 32 == 0 ? 32 : 16;  ///< of the inside that are in shared memory together
  static constexpr int result_width = form.result_width;
  static constexpr int alignment = form.alignment;
  static constexpr int stored_members = form.stored_members;

  struct Memory {
    const BFloat16* input[channel_mixer::most_inputs];
    const BFloat16* weight[channel_mixer::most_weights];
    const BFloat16* addend;
    BFloat16* member[stored_members > 0 ? stored_members : 1];
    BFloat16* result;
    int input_stride[channel_mixer::most_inputs];
    int addend_stride;
    int member_stride[stored_members > 0 ? stored_members : 1];
    int result_stride;
    unsigned rows;
  };

  /// Of 16 summands each, over the columns of an input; the first of them among those of both inputs.
  template <int I>
  static constexpr int steps = form.input_width[I] / 16;
  template <int I>
  static constexpr int first_step = I == 0 ? 0 : steps<0>;

  using Inputs = tensor::Left<16>[steps<0> + steps<1>];
  using Result = tensor::Sums[result_width / 8];

  template <int I>
  static __device__ void load_input(const Memory& memory, const unsigned (&row)[2], Inputs& input) {
    if constexpr (I < form.inputs) {
      const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
      for (int s = 0; s < steps<I>; ++s) {
#pragma unroll
        for (int part = 0; part < 4; ++part)
          input[first_step<I> + s].part[part] = channel_mixer_detail::load_two<alignment>(
              memory.input[I] + static_cast<std::size_t>(row[part % 2]) * memory.input_stride[I] + s * 16 +
              part / 2 * 8 + column);
      }
    }
  }

  /// The elementwise nodes of 8 columns.
  template <int Tiles, int... L, int... M>
  static __device__ void evaluate(const tensor::Sums (&sums)[loads][Tiles], int tile,
                                  std::uint32_t (&inner)[members][Tiles][2], std::integer_sequence<int, L...>,
                                  std::integer_sequence<int, M...>) {
    float value[loads + members][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) ((value[L][i] = sums[L][tile].value[i]), ...);
    (elementwise::evaluate<form.run.member[M].arity, typename Run::template FormulaOf<M>, typename Run::Number>(
         Run::template number<M>, value[Run::template Constant<form.run.member[M].a>::value],
         value[Run::template Constant<form.run.member[M].b>::value], value[loads + M]),
     ...);
    ((inner[M][tile][0] = tensor::pack(value[loads + M][0], value[loads + M][1]),
      inner[M][tile][1] = tensor::pack(value[loads + M][2], value[loads + M][3])),
     ...);
  }

  /// Columns from \p first on of a member that others read.
  template <int S, int Tiles>
  static __device__ void store_member(const Memory& memory, const unsigned (&row)[2], int first,
                                      const std::uint32_t (&inner)[members][Tiles][2]) {
    constexpr int m = form.stored[S];
#pragma unroll
    for (int tile = 0; tile < Tiles; tile += 2) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        channel_mixer_detail::store_columns<alignment>(
            memory.member[S] + static_cast<std::size_t>(row[half]) * memory.member_stride[S] + first + tile * 8,
            inner[m][tile][half], inner[m][tile + 1][half], row[half] < memory.rows);
    }
  }

  static __device__ void store_result(const Memory& memory, const unsigned (&row)[2], const unsigned (&readable)[2],
                                      const Result& result) {
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int c = 0; c < result_width / 16; ++c) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t word[2];
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
          float low = result[2 * c + tile].value[2 * half];
          float high = result[2 * c + tile].value[2 * half + 1];
          if constexpr (form.has_addend) {
            const std::uint32_t two = channel_mixer_detail::load_two<alignment>(
                memory.addend + static_cast<std::size_t>(readable[half]) * memory.addend_stride + c * 16 + tile * 8 +
                column);
            low += __uint_as_float(two << 16);
            high += __uint_as_float(two & 0xffff0000u);
          }
          word[tile] = tensor::pack(low, high);
        }
        // The lanes exchange what they have: all have read their addends by then, and may overwrite them.
        channel_mixer_detail::store_columns<alignment>(
            memory.result + static_cast<std::size_t>(row[half]) * memory.result_stride + c * 16, word[0], word[1],
            row[half] < memory.rows);
      }
    }
  }

  /// The rows of a block. `Products` is how its products are computed (channel_mixer_products.cuh).
  template <class Products, int... L, int... M, int... O, int... S>
  static __device__ void compute(const Memory& memory, BFloat16* shared, std::integer_sequence<int, L...> all_loads,
                                 std::integer_sequence<int, M...> all_members, std::integer_sequence<int, O...>,
                                 std::integer_sequence<int, S...>) {
    using Stage = typename Products::Stage;
    constexpr int ahead = channel_mixer_detail::ahead;
    constexpr int blocks = inside / columns;
    constexpr int tiles = Products::group / 8;
#pragma unroll
    for (int b = 0; b < ahead; ++b) {
      if (b < blocks) Stage::fill(memory, shared + b * Stage::size, b * columns);
      commit_copies();
    }
    const unsigned first_row = blockIdx.x * channel_mixer_detail::rows_per_block +
                               threadIdx.x / 32 * channel_mixer_detail::rows_per_warp + threadIdx.x % 32 / 4;
    const unsigned row[2] = {first_row, first_row + 8};
    const unsigned readable[2] = {min(row[0], memory.rows - 1), min(row[1], memory.rows - 1)};
    Inputs input;
    load_input<0>(memory, readable, input);
    load_input<1>(memory, readable, input);
    Result result{};
    int stage = 0;
#pragma unroll 1
    for (int b = 0; b < blocks; ++b) {
      wait_for_copies<ahead - 1>();
      Products::show_parts();
      __syncthreads();  // all have copied their parts, and are done with the stage that is filled next
      const int next = stage + ahead < Products::stages ? stage + ahead : stage + ahead - Products::stages;
      if (b + ahead < blocks) Stage::fill(memory, shared + next * Stage::size, (b + ahead) * columns);
      commit_copies();
      const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared + stage * Stage::size));
#pragma unroll
      for (int first = 0; first < columns; first += Products::group) {
        tensor::Sums sums[loads][tiles];
        Products::begin();
        (Products::template way_in<L>(address, first, input, sums[L]), ...);
        Products::finish_in(sums);
        std::uint32_t inner[members][tiles][2];
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) evaluate(sums, tile, inner, all_loads, all_members);
        Products::begin();
        (Products::template way_out<O>(address, first, b > 0, inner[form.out[O].member], result), ...);
        Products::finish_out();
        (store_member<S>(memory, row, b * columns + first, inner), ...);
      }
      stage = stage == Products::stages - 1 ? 0 : stage + 1;
    }
    wait_for_copies<0>();
    Products::finish(result);
    store_result(memory, row, readable, result);
  }

  static void run(const Context<P>& context, const Place* at);
};

template <class Low, int StepIndex, class P>
__global__ void __launch_bounds__(channel_mixer_detail::threads, 1)
    mixer_kernel(const __grid_constant__ typename Mixer<Low, StepIndex, P>::Memory memory) {
  using M = Mixer<Low, StepIndex, P>;
  extern __shared__ float4 dynamic_memory[];
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Products = channel_mixer_detail::WarpgroupProducts<M>;
#else
  using Products = channel_mixer_detail::WarpProducts<M>;
#endif
  M::template compute<Products>(
      memory, reinterpret_cast<BFloat16*>(dynamic_memory), std::make_integer_sequence<int, M::loads>{},
      std::make_integer_sequence<int, M::members>{}, std::make_integer_sequence<int, M::form.ways_out>{},
      std::make_integer_sequence<int, M::stored_members>{});
}

template <class Low, int StepIndex, class P>
void Mixer<Low, StepIndex, P>::run(const Context<P>& context, const Place* at) {
  Memory memory{};
  const auto next = [&] { return reinterpret_cast<BFloat16*>(locate(context, *at)); };
  for (int i = 0; i < form.inputs; ++i, ++at) {
    memory.input[i] = next();
    memory.input_stride[i] = at->stride;
  }
  for (int w = 0; w < form.weights; ++w, ++at) memory.weight[w] = locate_factor(context, *at);
  if (form.has_addend) {
    memory.addend = next();
    memory.addend_stride = at++->stride;
  }
  for (int m = 0; m < stored_members; ++m, ++at) {
    memory.member[m] = next();
    memory.member_stride[m] = at->stride;
  }
  memory.result = next();
  memory.result_stride = at->stride;
  memory.rows = static_cast<unsigned>(rows_of(Domain::tokens, context.shape));
  constexpr unsigned per_block = channel_mixer_detail::rows_per_block;
  context.queue->launch("a channel mixer", mixer_kernel<Low, StepIndex, P>,
                        dim3((memory.rows + per_block - 1) / per_block), dim3(channel_mixer_detail::threads),
                        static_cast<std::size_t>(channel_mixer_detail::shared_bytes<Mixer>()), memory);
}

}  // namespace mad::cuda
