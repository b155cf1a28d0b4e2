// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Compiles a lowered layer for the device.
#pragma once

#include <mad/cuda/block.hpp>
#include <mad/cuda/elementwise.cuh>
#include <mad/cuda/kernels.cuh>

#include <utility>

namespace mad::cuda {

/// A layer as the device runs it: as elsewhere, but with room for what it computes aside.
template <class L, int Width>
using Lowered = mad::Lowered<L, Width, all_passes | room_aside>;

/// Puts a kernel into the queue, or aside.
template <class C, class P>
void run_node(const Context<P>& context) {
  using K = Kernel<C::node.op>;
  if constexpr (C::runs_aside()) {
    Context<P> aside = context;
    aside.queue = &queue_aside(context, C::read(), C::written());
    K::run(C{aside});
  } else {
    wait_for_aside(context, C::read(), C::written());
    K::run(C{context});
  }
}

/// Puts one step of a plan into the queue: a run of elementwise nodes, or a kernel.
template <class Low, int StepIndex, class P>
void run_step(const Context<P>& context) {
  constexpr Step step = Low::plan.schedule.steps[StepIndex];
  context.queue->release();
  if constexpr (step.group)
    elementwise::Run<Low, StepIndex, P>::run(context);
  else
    run_node<Call<Low, Low::plan.schedule.order[step.first], P>>(context);
}

template <class Low, Phase Which, class P, int... S>
void run_steps(const Context<P>& context, std::integer_sequence<int, S...>) {
  constexpr int begin = Low::plan.schedule.phase_begin[static_cast<int>(Which)];
  (run_step<Low, begin + S, P>(context), ...);
}

template <class Low, Phase Which, class P>
void run_phase(const Context<P>& context) {
  constexpr int begin = Low::plan.schedule.phase_begin[static_cast<int>(Which)];
  constexpr int end = Low::plan.schedule.phase_begin[static_cast<int>(Which) + 1];
  run_steps<Low, Which>(context, std::make_integer_sequence<int, end - begin>{});
}

template <class Low, int Id, class P>
void prepared_bytes_of(const Shape& shape, Index* bytes) {
  if constexpr (Low::graph.nodes[Id].op->prepared && Low::plan.schedule.live[Id])
    bytes[Low::plan.location[Id].base] = Kernel<Low::graph.nodes[Id].op>::template bytes<Call<Low, Id, P>>(shape);
}

/// Memory that the prepared values of a layer want, written to `bytes[slot]`.
template <class Low, class P, int... I>
void prepared_bytes(const Shape& shape, Index* bytes, std::integer_sequence<int, I...>) {
  (prepared_bytes_of<Low, I, P>(shape, bytes), ...);
}
template <class Low, class P>
void prepared_bytes(const Shape& shape, Index* bytes) {
  prepared_bytes<Low, P>(shape, bytes, std::make_integer_sequence<int, Low::graph.size>{});
}

template <class L>
constexpr std::string_view shorthand_of() {
  if constexpr (requires { L::shorthand; })
    return L::shorthand;
  else
    return L::name;
}

/// The one `Block` of a lowered layer.
template <class Low, class P>
inline constexpr Block<P> block{Low::Description::name,
                                shorthand_of<typename Low::Description>(),
                                Low::width,
                                Low::output_width,
                                {Low::parameters.parameters, static_cast<std::size_t>(Low::graph.parameter_count)},
                                &Layout<Low, P>::arenas,
                                Low::fingerprint,
                                {&run_phase<Low, Phase::prologue, P>, &run_phase<Low, Phase::forward, P>,
                                 &run_phase<Low, Phase::backward, P>, &run_phase<Low, Phase::epilogue, P>},
                                &prepared_bytes<Low, P>};

}  // namespace mad::cuda
