// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The command line for types of your own: `int main(int argc, char** argv) { return mad::run<Net>(argc, argv); }`.
#pragma once

#include <mad/cli/main.hpp>
#include <mad/models/stack.hpp>

#include <string>
#include <utility>
#include <vector>

namespace mad {

namespace cli::detail {

/// Registers the layer unless the same type is there, and appends its name to the stack.
template <Layer L, int Width>
void add_to_stack(LayerRegistry& registry, std::vector<std::string>& stack) {
  const cpu::Block<float>* block = &cpu::block<Lowered<Residual<Norm::layer_norm, L>, Width>, float>;
  for (const LayerEntry& known : registry.layers()) {
    if (known.compiled.front().block != block) continue;
    stack.push_back(known.name);
    return;
  }
  LayerEntry entry = layer_entry<L, Width>();
  // Two types may share a name: the same layer with other options.
  const std::string base = entry.name;
  const std::string short_base = entry.shorthand;
  for (int n = 2; registry.contains(entry.name) || registry.contains(entry.shorthand); ++n) {
    entry.name = base + "-" + std::to_string(n);
    entry.shorthand = short_base + "-" + std::to_string(n);
  }
  stack.push_back(entry.name);
  registry.add(std::move(entry));
}

template <int Width, class... L>
void add_stack(LayerRegistry& registry, LayerList<L...>) {
  std::vector<std::string> stack;
  (add_to_stack<L, Width>(registry, stack), ...);
  registry.add_backbones<Width>();
  registry.set_default_model(std::move(stack), Width);
}

}  // namespace cli::detail

/// The whole command line for the stack `Net`: every layer in it can be named, and `Net` itself is the default of
/// --layers. Compiles one width. \returns the exit status for `main`
template <class Net, int Width = 128>
int run(int argc, char** argv) {
  static_assert(stack_detail::Check<Width, LayersOf<Net>>::value);
  cli::LayerRegistry registry;
  try {
    cli::detail::add_stack<Width>(registry, LayersOf<Net>{});
  } catch (const UsageError& error) {
    cli::note(std::string("mad: ") + error.what());
    return UsageError::exit_status;
  }
  return cli::main(argc, argv, registry);
}

}  // namespace mad
