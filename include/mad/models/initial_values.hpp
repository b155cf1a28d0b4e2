// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Initial values: the layers' own, and what the backbones override.
#pragma once

#include <mad/models/model.hpp>
#include <mad/random/generator.hpp>

#include <cmath>
#include <numbers>
#include <span>
#include <vector>

namespace mad {

/// Normal numbers from uniform ones (Box and Muller 1958), in pairs.
class NormalSource {
public:
  explicit NormalSource(random::Generator& generator) : generator_(generator) {}

  double operator()() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2 * std::log1p(-generator_.random()));
    const double angle = 2 * std::numbers::pi * generator_.random();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

private:
  random::Generator& generator_;
  double spare_ = 0;
  bool has_spare_ = false;
};

/// Writes `values` as `initial` says.
inline void fill_initial(const Parameter& parameter, const Initial& initial, Index max_length,
                         random::Generator& generator, std::span<double> values) {
  switch (initial.kind) {
    case Initial::Kind::uniform:
      for (double& v : values) v = initial.scale * (2 * generator.random() - 1);
      break;
    case Initial::Kind::normal: {
      NormalSource normal(generator);
      for (double& v : values) v = initial.scale * normal();
      break;
    }
    case Initial::Kind::constant:
      for (double& v : values) v = initial.scale;
      break;
    case Initial::Kind::filled: {
      const Initial::Source source{[](void* g) { return static_cast<random::Generator*>(g)->random(); }, &generator};
      initial.fill(parameter, max_length, source, values.data());
      break;
    }
  }
}

/// Standard deviation of the embeddings, and of all linear weights of an auto-encoder.
inline constexpr double backbone_deviation = 0.02;

/// Initial values of a layer's parameter inside a backbone. The language model zeroes the biases of linear maps, except
/// where a layer asks for its own; the auto-encoder makes no exception and redraws every linear weight as well.
inline void fill_in_backbone(const Parameter& parameter, Backbone backbone, Index max_length,
                             random::Generator& generator, std::span<double> values) {
  Initial initial = parameter.initial;
  const bool all = backbone == Backbone::auto_encoder;
  if (parameter.role == Role::bias && (parameter.reinitialise || all)) initial = Initial::constant(0);
  if (parameter.role == Role::matrix && all) initial = Initial::normal(backbone_deviation);
  fill_initial(parameter, initial, max_length, generator, values);
}

/// Row i of the sinusoidal table: sin(i f_0) .. sin(i f_{h-1}), cos(i f_0) .. cos(i f_{h-1}), a zero if the width is
/// odd, with h = width / 2 and f_j = 10000^(-j/(h-1)). Needs a width of at least 4.
template <class T>
std::vector<T> sinusoidal_table(Index rows, Index width) {
  std::vector<T> table(static_cast<std::size_t>(rows * width), T(0));
  const Index half = width / 2;
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < half; ++j) {
      const double frequency = std::exp(-std::log(10000.0) * static_cast<double>(j) / static_cast<double>(half - 1));
      const double angle = static_cast<double>(i) * frequency;
      table[static_cast<std::size_t>(i * width + j)] = static_cast<T>(std::sin(angle));
      table[static_cast<std::size_t>(i * width + half + j)] = static_cast<T>(std::cos(angle));
    }
  }
  return table;
}

}  // namespace mad
