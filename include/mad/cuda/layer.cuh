// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Compiles a lowered layer for the device.
#pragma once

#include <mad/cuda/block.hpp>
#include <mad/cuda/step_code.cuh>

#include <type_traits>
#include <utility>

namespace mad::cuda {

/// With room for what is computed aside, nothing computed again that takes a kernel of its own or lies in memory, and
/// no products in memory that whoever reads them can form.
inline constexpr unsigned device_passes = all_passes | room_aside | save_kernels | save_operands | stored_factors;

/// A layer as the device runs it at a precision. Channel mixers, with the norm in front, are one kernel where there are
/// tensor cores for it; other layers are the same at all precisions, so that they are planned once.
template <class L, int Width, class P>
using DeviceLowered = Lowered<L, Width,
                              device_passes | (std::is_same_v<typename P::Activation, BFloat16> &&
                                                       channel_mixer::occurs(Lowered<L, Width, device_passes>::graph)
                                                   ? channel_mixers | mixer_norms
                                                   : 0u)>;

/// Memory that the prepared values of a layer want, written to `bytes[slot]`.
template <class Low, class P, int... Slot>
void prepared_bytes(const Shape& shape, Index* bytes, std::integer_sequence<int, Slot...>) {
  ((bytes[Slot] = Kernel<Low::prepared.op[Slot]>::template bytes<Call<Low, Low::prepared.node[Slot], P>>(shape)), ...);
}
template <class Low, class P>
void prepared_bytes(const Shape& shape, Index* bytes) {
  prepared_bytes<Low, P>(shape, bytes, std::make_integer_sequence<int, Low::plan.arenas.prepared_count>{});
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
