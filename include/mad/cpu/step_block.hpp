// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A lowered layer compiled for step-by-step inference: only programs that step pay for it.
#pragma once

#include <mad/cpu/block.hpp>

namespace mad::cpu {

namespace stepping {

/// True if node \p Id has a kernel that takes one token at a time.
template <class Low, int Id, class T>
constexpr bool has_step() {
  if constexpr (Low::graph.nodes[Id].op->kind != Kind::opaque)
    return false;
  else
    return requires(const Shape& shape) {
      Kernel<Low::graph.nodes[Id].op>::template step_state<Call<Low, Id, T>, T>(shape);
    };
}

/// The steps of a phase, as constants.
template <class Low, Phase P, class F>
void for_each_step(const F& f) {
  constexpr int begin = Low::plan.schedule.phase_begin[static_cast<int>(P)];
  constexpr int end = Low::plan.schedule.phase_begin[static_cast<int>(P) + 1];
  [&]<int... S>(std::integer_sequence<int, S...>) { (f(std::integral_constant<int, begin + S>{}), ...); }
  (std::make_integer_sequence<int, end - begin>{});
}

/// Numbers that node \p Id keeps for all sequences.
template <class Low, int Id, class T>
Index node_state(const Shape& shape) {
  constexpr const Operation* op = Low::graph.nodes[Id].op;
  static_assert(op->state == nullptr || has_step<Low, Id, T>(),
                "mad: this operation keeps a state from token to token, but its kernel has no 'step_state' and 'step': "
                "see Kernel in cpu/call/context.hpp.");
  if constexpr (has_step<Low, Id, T>())
    return Kernel<op>::template step_state<Call<Low, Id, T>, T>(shape);
  else
    return 0;
}

template <class Low, class T>
Index state_size(const Shape& shape) {
  Index total = 0;
  for_each_step<Low, Phase::forward>([&](auto step) {
    if constexpr (!Low::plan.schedule.steps[step()].group)
      total += node_state<Low, Low::plan.schedule.order[Low::plan.schedule.steps[step()].first], T>(shape);
  });
  return total;
}

template <class Low, class T>
void run(const Context<T>& context, T* state) {
  for_each_step<Low, Phase::forward>([&](auto step) {
    constexpr const Step& s = Low::plan.schedule.steps[step()];
    constexpr int id = Low::plan.schedule.order[s.first];
    if constexpr (!s.group && has_step<Low, id, T>()) {
      Kernel<Low::graph.nodes[id].op>::template step<Call<Low, id, T>, T>({context}, context.past, state);
      state += node_state<Low, id, T>(context.shape);
    } else {
      run_step<Low, step(), T>(context);
    }
  });
}

/// True if a prepared value is read by a kernel that runs as in training. Steps do not read it.
template <class Low, int Prepared, class T>
constexpr bool is_read() {
  return []<int... I>(std::integer_sequence<int, I...>) {
    const auto reads = [](const Node& n) {
      for (int k = 0; k < n.operands; ++k)
        if (n.operand[k] == Prepared) return true;
      return false;
    };
    return ((Low::plan.schedule.live[I] && reads(Low::graph.nodes[I]) && !has_step<Low, I, T>()) || ...);
  }
  (std::make_integer_sequence<int, Low::graph.forward_size>{});
}

template <class Low, class T>
void run_prologue(const Context<T>& context) {
  for_each_step<Low, Phase::prologue>([&](auto step) {
    constexpr int id = Low::plan.schedule.order[Low::plan.schedule.steps[step()].first];
    if constexpr (!Low::graph.nodes[id].op->prepared || is_read<Low, id, T>()) run_step<Low, step(), T>(context);
  });
}

template <class Low, class T>
void prepared_sizes([[maybe_unused]] const Shape& shape, [[maybe_unused]] Index* sizes) {
  for_each_step<Low, Phase::prologue>([&](auto step) {
    constexpr int id = Low::plan.schedule.order[Low::plan.schedule.steps[step()].first];
    if constexpr (Low::graph.nodes[id].op->prepared && is_read<Low, id, T>())
      sizes[Low::plan.location[id].base] = Kernel<Low::graph.nodes[id].op>::template size<Call<Low, id, T>, T>(shape);
  });
}

/// True if a value of the forward pass has one row per position: sequences can then not be longer than its grid.
template <class Low>
constexpr bool has_positions() {
  for (int i = 0; i < Low::graph.forward_size; ++i)
    if (Low::plan.schedule.live[i] && Low::graph.nodes[i].domain == Domain::positions) return true;
  return false;
}

}  // namespace stepping

/// What `Block` is for training, for inference token by token: a layer at a width and number type.
template <class T>
struct StepBlock {
  std::string_view name;
  std::string_view shorthand;
  int width;
  int output_width;
  std::span<const Parameter> parameters;
  const Arenas* arenas;
  std::uint64_t fingerprint;            ///< that of the `Block` of the same layer
  bool has_positions;                   ///< sequences cannot be longer than the layer's max_length
  Index (*state_size)(const Shape&);    ///< numbers kept for all `batch` sequences of up to `max_length` tokens
  void (*prologue)(const Context<T>&);  ///< what depends on parameters alone, for all positions
  void (*prepared_sizes)(const Shape&, Index* sizes);
  /// The forward pass for one token per sequence, at position `past`; reads and writes the state.
  void (*run)(const Context<T>&, T* state);
};

/// The one `StepBlock` of a lowered layer.
template <class Low, class T>
inline constexpr StepBlock<T> step_block{
    Low::Description::name,
    shorthand_of<typename Low::Description>(),
    Low::width,
    Low::output_width,
    {Low::parameters.parameters, static_cast<std::size_t>(Low::graph.parameter_count)},
    &Low::arenas,
    Low::fingerprint,
    stepping::has_positions<Low>(),
    &stepping::state_size<Low, T>,
    &stepping::run_prologue<Low, T>,
    &stepping::prepared_sizes<Low, T>,
    &stepping::run<Low, T>};

}  // namespace mad::cpu
