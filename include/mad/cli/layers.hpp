// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `mad layers`: what can be composed by name.
#pragma once

#include <mad/cli/layer_cost.hpp>
#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>
#include <mad/cli/text_table.hpp>

#include <cmath>
#include <memory>
#include <set>
#include <string>

namespace mad::cli {

inline std::string layers_text(const LayerRegistry& registry, const CostSizes& sizes) {
  using enum TextTable::Align;
  TextTable table({left, left, right, right, right, left});
  table.add({"name", "short", "parameters", "FLOPs/token", "state", "options"});
  std::set<int> widths;
  for (const LayerEntry& layer : registry.layers()) {
    const LayerCost cost = layer_cost(layer, sizes);
    table.add({layer.name, layer.shorthand, grouped(cost.parameters), grouped(std::llround(cost.flops_per_token)),
               grouped(cost.state), layer.description});
    for (const CompiledLayer& compiled : layer.compiled) widths.insert(compiled.width);
  }
  const std::string length = std::to_string(sizes.length);
  std::string architectures;
  if (!registry.architectures().empty()) {
    TextTable named({left, left});
    named.add({"architecture", "layers"});
    for (const ArchitectureEntry& entry : registry.architectures()) named.add({entry.name, joined(entry.layers, " ")});
    architectures = "\n" + named.text();
  }
  return table.text() + architectures + "\nCounts are for width " + std::to_string(sizes.width) + " and sequences of " +
         length + ", without norm and residual: trained parameters (filters made for\n" + length +
         " positions), operations of the forward pass, and the numbers that step-by-step inference keeps per "
         "sequence.\n"
         "Compiled for width " +
         detail::width_list(widths) + "; 'mad cost' counts at any width.\n";
}

inline Command layers_command(CLI::App& parent, const Program& program) {
  CLI::App* app = parent.add_subcommand("layers", "list the layers that --layers takes, with counts and options");
  app->footer("Example:\n  " + program.name + " layers");
  return {app, [&program] {
            print(layers_text(program.layers, {.width = program.layers.default_width()}));
            return 0;
          }};
}

}  // namespace mad::cli
