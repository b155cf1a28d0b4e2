// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A number that tells one layer from another, whatever they are called.
#pragma once

#include <mad/graph/graph.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace mad::cli {

/// Of the forward passes of layers: operations, sizes, options, parameters and their initial values. A run records it,
/// so that a layer that was changed under its old name is not taken for the old one. Not meant against intent (FNV-1a).
class Fingerprint {
public:
  void add(const Graph& graph) {
    add(graph.forward_size);
    for (int i = 0; i < graph.forward_size; ++i) {
      const Node& node = graph.nodes[i];
      add(node.op->name);
      add(static_cast<int>(node.domain));
      add(node.width);
      add(node.operands);
      for (int operand = 0; operand < node.operands; ++operand) add(node.operand[operand]);
      for (const int attribute : node.attribute) add(attribute);
      for (const double number : node.number) add(number);
    }
    add(graph.parameter_count);
    for (int i = 0; i < graph.parameter_count; ++i) {
      const Parameter& parameter = graph.parameters[i];
      add(parameter.name.view());
      for (int d = 0; d < parameter.rank; ++d) add(parameter.dims[d]);
      add(static_cast<int>(parameter.role));
      add(static_cast<int>(parameter.initial.kind));
      add(parameter.initial.scale);
      for (const double number : parameter.initial.number) add(number);
      for (const bool mark : {parameter.is_constant, parameter.decay, parameter.reinitialise}) add(mark ? 1 : 0);
      add(parameter.learning_rate);
    }
  }

  /// 16 hexadecimal digits.
  std::string text() const {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash_));
    return text.data();
  }

private:
  void mix(std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) hash_ = (hash_ ^ (value >> (8 * byte) & 0xff)) * 0x100000001b3u;
  }
  void add(int value) { mix(static_cast<std::uint64_t>(static_cast<std::int64_t>(value))); }
  void add(double value) { mix(std::bit_cast<std::uint64_t>(value)); }
  void add(std::string_view text) {
    for (const char c : text) mix(static_cast<unsigned char>(c));
    mix(text.size());
  }

  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace mad::cli
