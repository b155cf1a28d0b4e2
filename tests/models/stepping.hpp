// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A layer fed token by token against the same layer on whole sequences.
#pragma once

#include <mad/cpu/layer_steps.hpp>
#include <mad/cpu/single_layer.hpp>
#include <mad/graph/cost.hpp>
#include <mad/models/initial_values.hpp>

#include <catch.hpp>
#include <cmath>
#include <vector>

namespace mad::testing {

/// Sizes of a comparison: `shape` of the whole sequences, and how long a sequence the steps could take.
struct StepCase {
  Shape shape;
  Index longest;
};

/// Length 1; odd lengths; sequences that fill what was asked for and that do not; a grid of positions larger than
/// both; more tokens than the usual window (33 keys) twice over, and enough for transforms.
inline const std::vector<StepCase> step_cases{{{1, 1, 1}, 1},    {{3, 1, 4}, 2},    {{2, 2, 2}, 2},   {{1, 7, 7}, 7},
                                              {{3, 21, 29}, 24}, {{2, 75, 80}, 75}, {{1, 97, 97}, 97}};

/// Feeds layer L at `Width` channels with random tokens, one of each sequence at a time, and compares every output
/// with the parallel form, to 1e-9 of the largest; what it keeps must be what `state_size` says. Parameters are moved
/// off their initial values.
template <class L, int Width>
void check_steps(const std::vector<StepCase>& cases = step_cases) {
  using Low = Lowered<L, Width>;
  // The backward pass of the parallel form is not needed: its compilation is spared.
  static constexpr cpu::Block<double> forward{
      .name = L::name,
      .shorthand = L::name,
      .width = Low::width,
      .output_width = Low::output_width,
      .parameters = cpu::step_block<Low, double>.parameters,
      .arenas = &Low::arenas,
      .fingerprint = Low::fingerprint,
      .run = {&cpu::run_phase<Low, Phase::prologue, double>, &cpu::run_phase<Low, Phase::forward, double>},
      .prepared_sizes = &cpu::prepared_sizes<Low, double>};
  for (const StepCase& c : cases) {
    const Shape& shape = c.shape;
    INFO(L::name << ", width " << Width << ", batch " << shape.batch << ", length " << shape.length << " of "
                 << c.longest << ", max length " << shape.max_length);
    cpu::SingleLayer<double> whole(forward, shape);
    random::Generator generator(11);
    NormalSource normal(generator);
    std::vector<double> arenas[2];  // parameters, constants
    for (int i = 0; i < Low::graph.parameter_count; ++i) {
      const Parameter& p = Low::graph.parameters[i];
      std::vector<double>& arena = arenas[p.is_constant ? 1 : 0];
      const Index begin = p.offset(shape.max_length);
      const Index count = p.count(shape.max_length);
      const std::span<double> values(whole.parameter(i), static_cast<std::size_t>(count));
      if (!p.is_constant) {
        fill_initial(p, p.initial, shape.max_length, generator, values);
        for (double& v : values) v += 0.1 * normal();
      }
      arena.resize(std::max(arena.size(), static_cast<std::size_t>(begin + count)));
      std::copy(values.begin(), values.end(), arena.begin() + begin);
    }

    std::vector<double> x(static_cast<std::size_t>(shape.tokens() * Width));
    std::vector<double> y(static_cast<std::size_t>(shape.tokens() * Low::output_width));
    for (double& v : x) v = normal();
    whole.forward(x.data(), y.data());
    double largest = 0;
    for (const double v : y) largest = std::max(largest, std::abs(v));

    cpu::Workspace workspace;
    cpu::LayerSteps<double> steps(cpu::step_block<Low, double>, shape.batch, c.longest, shape.max_length);
    CHECK(steps.state_size() == shape.batch * state_size(Low::graph, c.longest));
    steps.prepare(arenas[0].data(), arenas[1].data(), workspace);
    std::vector<double> token(static_cast<std::size_t>(shape.batch * Width));
    std::vector<double> out(static_cast<std::size_t>(shape.batch * Low::output_width));
    for (int round = 0; round < 2; ++round) {  // the second after a reset
      double error = 0;
      for (Index t = 0; t < shape.length; ++t) {
        for (Index b = 0; b < shape.batch; ++b)
          std::copy_n(x.data() + (b * shape.length + t) * Width, Width, token.data() + b * Width);
        std::fill(out.begin(), out.end(), NAN);
        steps.step(t, token.data(), out.data(), workspace);
        for (Index b = 0; b < shape.batch; ++b)
          for (Index o = 0; o < Low::output_width; ++o) {
            const double found = out[static_cast<std::size_t>(b * Low::output_width + o)];
            const double expected = y[static_cast<std::size_t>((b * shape.length + t) * Low::output_width + o)];
            error = std::isfinite(found) ? std::max(error, std::abs(found - expected)) : INFINITY;
          }
      }
      CHECK(error <= 1e-9 * largest);
      steps.reset();
    }
  }
}

}  // namespace mad::testing
