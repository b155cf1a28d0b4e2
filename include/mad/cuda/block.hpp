// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A compiled layer as the executor sees it: a table of functions. Names no kernel, so that programs can compile the
/// layers in one file (see layer.cuh) and use them in others.
#pragma once

#include <mad/cuda/call/context.hpp>

#include <cstdint>
#include <span>
#include <string_view>

namespace mad::cuda {

/// A layer at a width and precision, with everything a model needs to run it.
template <class P>
struct Block {
  std::string_view name;
  std::string_view shorthand;
  int width;
  int output_width;
  std::span<const Parameter> parameters;
  const Arenas* arenas;
  std::uint64_t fingerprint;                    ///< of the description: see fingerprint_of
  void (*run[phase_count])(const Context<P>&);  ///< by Phase
  void (*prepared_bytes)(const Shape&, Index* bytes);
};

}  // namespace mad::cuda
