// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A lowered layer compiled for the CPU, and the table of functions by which a model calls it.
#pragma once

#include <mad/cpu/call/context.hpp>
#include <mad/cpu/kernels.hpp>
#include <mad/cpu/kernels/elementwise.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace mad::cpu {

/// Runs one step of a plan: a loop over a run of elementwise nodes, or a kernel.
template <class Low, int StepIndex, class T>
[[gnu::noinline]] void run_step(const Context<T>& context) {
  constexpr const Step& step = Low::plan.schedule.steps[StepIndex];
  if constexpr (step.group) {
    elementwise::Run<Low, StepIndex, T>::run(context);
  } else {
    constexpr int id = Low::plan.schedule.order[step.first];
    Kernel<Low::graph.nodes[id].op>::run(Call<Low, id, T>{context});
  }
}

template <class Low, Phase P, class T>
void run_phase(const Context<T>& context) {
  constexpr int begin = Low::plan.schedule.phase_begin[static_cast<int>(P)];
  constexpr int end = Low::plan.schedule.phase_begin[static_cast<int>(P) + 1];
  [&]<int... S>(std::integer_sequence<int, S...>) { (run_step<Low, begin + S, T>(context), ...); }
  (std::make_integer_sequence<int, end - begin>{});
}

/// Sizes of the prepared values of a layer, in numbers, written to `sizes[slot]`.
template <class Low, class T>
void prepared_sizes(const Shape& shape, Index* sizes) {
  const auto size_of = [&]<int I>(std::integral_constant<int, I>) {
    if constexpr (Low::graph.nodes[I].op->prepared && Low::plan.schedule.live[I])
      sizes[Low::plan.location[I].base] = Kernel<Low::graph.nodes[I].op>::template size<Call<Low, I, T>, T>(shape);
    return 0;
  };
  // A list, not a fold: clang expands no fold over more than 256 nodes.
  [&]<int... I>(std::integer_sequence<int, I...>) {
    [[maybe_unused]] const int each[] = {size_of(std::integral_constant<int, I>{})...};
  }
  (std::make_integer_sequence<int, Low::graph.size>{});
}

/// A layer at a width and number type, with everything a model needs to run it. A model is a list of these, whether
/// its layers were named in a type or on the command line.
template <class T>
struct Block {
  std::string_view name;
  std::string_view shorthand;
  int width;
  int output_width;
  std::span<const Parameter> parameters;
  const Arenas* arenas;
  std::uint64_t fingerprint;                    ///< of the description: see fingerprint_of
  void (*run[phase_count])(const Context<T>&);  ///< by Phase
  void (*prepared_sizes)(const Shape&, Index* sizes);
};

template <class L>
constexpr std::string_view shorthand_of() {
  if constexpr (requires { L::shorthand; })
    return L::shorthand;
  else
    return L::name;
}

/// The one `Block` of a lowered layer.
template <class Low, class T>
inline constexpr Block<T> block{Low::Description::name,
                                shorthand_of<typename Low::Description>(),
                                Low::width,
                                Low::output_width,
                                {Low::parameters.parameters, static_cast<std::size_t>(Low::graph.parameter_count)},
                                &Low::arenas,
                                Low::fingerprint,
                                {&run_phase<Low, Phase::prologue, T>, &run_phase<Low, Phase::forward, T>,
                                 &run_phase<Low, Phase::backward, T>, &run_phase<Low, Phase::epilogue, T>},
                                &prepared_sizes<Low, T>};

}  // namespace mad::cpu
