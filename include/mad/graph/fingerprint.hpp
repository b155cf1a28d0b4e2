// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A number that tells one layer from another, whatever they are called.
#pragma once

#include <mad/graph/graph.hpp>

#include <bit>
#include <cstdint>
#include <string_view>

namespace mad {

/// Mixes numbers and text into 64 bits. Not meant against intent.
class Fingerprint {
public:
  constexpr void add(std::uint64_t value) {
    hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15u;
    hash_ ^= hash_ >> 32;
  }
  constexpr void add(int value) { add(static_cast<std::uint64_t>(static_cast<std::int64_t>(value))); }
  constexpr void add(double value) { add(std::bit_cast<std::uint64_t>(value)); }
  constexpr void add(std::string_view text) {
    for (const char c : text) add(static_cast<int>(c));
    add(static_cast<int>(text.size()));
  }
  constexpr std::uint64_t value() const { return hash_; }

private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

/// Of the forward pass of a layer: operations, sizes, options, parameters and their initial values. A run records it,
/// so that a layer that was changed under its old name is not taken for the old one.
constexpr std::uint64_t fingerprint_of(const Graph& graph) {
  Fingerprint print;
  print.add(graph.forward_size);
  for (int i = 0; i < graph.forward_size; ++i) {
    const Node& node = graph.nodes[i];
    print.add(node.op->name);
    print.add(static_cast<int>(node.domain));
    print.add(node.width);
    print.add(node.operands);
    for (int operand = 0; operand < node.operands; ++operand) print.add(node.operand[operand]);
    for (const int attribute : node.attribute) print.add(attribute);
    for (const double number : node.number) print.add(number);
  }
  print.add(graph.parameter_count);
  for (int i = 0; i < graph.parameter_count; ++i) {
    const Parameter& parameter = graph.parameters[i];
    print.add(parameter.name.view());
    for (int d = 0; d < parameter.rank; ++d) print.add(parameter.dims[d]);
    print.add(static_cast<int>(parameter.role));
    print.add(static_cast<int>(parameter.initial.kind));
    print.add(parameter.initial.scale);
    for (const double number : parameter.initial.number) print.add(number);
    for (const bool mark : {parameter.is_constant, parameter.decay, parameter.reinitialise}) print.add(mark ? 1 : 0);
    print.add(parameter.learning_rate);
  }
  return print.value();
}

}  // namespace mad
