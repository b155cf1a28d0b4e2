// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Long filters as small networks of the position: Hyena's implicit filter.
#pragma once

#include <mad/graph/graph.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>

#include <numbers>

namespace mad {

struct FilterOptions {
  int order = 16;           ///< width of the network
  int features = 3;         ///< positional features: a ramp and (features - 1) / 2 sines and cosines; odd, >= 3
  int depth = 2;            ///< hidden layers after the first
  double frequency = 1;     ///< initial frequency of the sines
  bool modulate = true;     ///< multiply by exponential windows
  bool normalized = false;  ///< LayerNorm over the channels at the end
  double fast_decay = 0.3;  ///< share of the grid after which the fastest window has fallen to `target`
  double slow_decay = 1.5;  ///< the same for the slowest
  double target = 0.01;
  double shift = 0;                 ///< added to the windows
  double window_learning_rate = 0;  ///< 0: the windows' rates are constants; else they are trained (own rate)
  double network_learning_rate = 1e-3;
  double feature_learning_rate = 1e-5;
};

namespace filter {

/// i / (max_length - 1), and 0 for a single position.
constexpr double ramp(Index i, Index max_length) {
  return max_length > 1 ? static_cast<double>(i) / static_cast<double>(max_length - 1) : 0;
}

/// Row i: ramp, then cos(f_b w_i) for all bands b, then -sin(f_b w_i), with w_i = 2 pi i / max_length and f_b equally
/// spaced from 1e-4 to bands - 1.
inline void fill_features(const Parameter& p, Index max_length, const Initial::Source&, double* values) {
  const Index features = p.dims[2];
  const Index bands = (features - 1) / 2;
  for (Index i = 0; i < max_length; ++i) {
    double* row = values + i * features;
    row[0] = ramp(i, max_length);
    const double w = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(max_length);
    for (Index b = 0; b < bands; ++b) {
      const double last = static_cast<double>(bands - 1);
      const double f = bands > 1 ? 1e-4 + (last - 1e-4) * static_cast<double>(b) / last : 1e-4;
      row[1 + b] = std::cos(f * w);
      row[1 + bands + b] = -std::sin(f * w);
    }
  }
}

inline void fill_ramp(const Parameter&, Index max_length, const Initial::Source&, double* values) {
  for (Index i = 0; i < max_length; ++i) values[i] = ramp(i, max_length);
}

/// Equally spaced from ln(target) / slow to ln(target) / fast.
inline void fill_deltas(const Parameter& p, Index, const Initial::Source&, double* values) {
  const Index channels = p.dims[2];
  const double slow = std::log(p.initial.number[0]) / p.initial.number[1];
  const double fast = std::log(p.initial.number[0]) / p.initial.number[2];
  for (Index c = 0; c < channels; ++c) {
    const double share = channels > 1 ? static_cast<double>(c) / static_cast<double>(channels - 1) : 0;
    values[c] = slow + (fast - slow) * share;
  }
}

}  // namespace filter

/// The implicit filter h (positions, channels) of Hyena (Poli et al. 2023, section 3.3): a network with sine
/// activations on trainable positional features, times exponential windows. Time is relative to the maximum length, so
/// a shorter input uses the first taps of the same filter. Parameters `pos_emb.z`, `implicit_filter.*` and, if trained,
/// `modulation.deltas` under the current scope; the sines share one vector of frequencies, `implicit_filter.1.freq`.
constexpr Value implicit_filter(Value x, int channels, const FilterOptions& o, int line = __builtin_LINE()) {
  Graph& g = *x.graph;
  if (o.features < 3 || o.features % 2 == 0) g.fail(Fault::bad_option, o.features, 3, line);
  if (o.depth < 0) g.fail(Fault::bad_option, o.depth, 0, line);
  if (o.order < 1) g.fail(Fault::bad_option, o.order, 1, line);
  constexpr int per_max = Parameter::per_max_length;
  const Value features = parameter(x, "pos_emb.z",
                                   {.dims = {1, per_max, o.features},
                                    .rank = 3,
                                    .initial = {.kind = Initial::Kind::filled, .fill = &filter::fill_features},
                                    .decay = false,
                                    .learning_rate = o.feature_learning_rate});
  const LinearOptions network{.bias = true, .decay = false, .learning_rate = o.network_learning_rate};
  Value h;
  h = linear(features, o.order, "implicit_filter.0", network);
  const Value frequency = parameter(x, "implicit_filter.1.freq",
                                    {.dims = {1, o.order},
                                     .rank = 2,
                                     .initial = Initial::constant(o.frequency),
                                     .decay = false,
                                     .learning_rate = o.network_learning_rate});
  h = sin(h * frequency);
  constexpr const char* hidden[] = {"implicit_filter.2", "implicit_filter.4", "implicit_filter.6", "implicit_filter.8"};
  constexpr const char* last[] = {"implicit_filter.2", "implicit_filter.4", "implicit_filter.6", "implicit_filter.8",
                                  "implicit_filter.10"};
  if (o.depth > 4) g.fail(Fault::bad_option, o.depth, 4, line);
  for (int i = 0; i < o.depth && i < 4; ++i) h = sin(linear(h, o.order, hidden[i], network) * frequency);
  h = linear(h, channels,
             last[o.depth < 0   ? 0
                  : o.depth < 4 ? o.depth
                                : 4],
             {.bias = false, .decay = false, .learning_rate = o.network_learning_rate});
  if (o.modulate) {
    const Value time = parameter(x, "pos_emb.t",
                                 {.dims = {1, per_max, 1},
                                  .rank = 3,
                                  .initial = {.kind = Initial::Kind::filled, .fill = &filter::fill_ramp},
                                  .is_constant = true});
    const Value deltas = parameter(x, "modulation.deltas",
                                   {.dims = {1, 1, channels},
                                    .rank = 3,
                                    .initial = {.kind = Initial::Kind::filled,
                                                .fill = &filter::fill_deltas,
                                                .number = {o.target, o.slow_decay, o.fast_decay}},
                                    .is_constant = o.window_learning_rate == 0,
                                    .decay = false,
                                    .learning_rate = o.window_learning_rate});
    h = h * (exp(-(time * abs(deltas))) + o.shift);
  }
  if (o.normalized) {
    Scope scope(x, "post_modulation_norm");
    h = layer_norm(h);
  }
  return h;
}

}  // namespace mad
