// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Mamba: a selective state-space model.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/selective_scan.hpp>
#include <mad/ops/short_conv.hpp>
#include <mad/ops/time_step.hpp>

namespace mad {

struct MambaOptions {
  int state = 4;          ///< N, states per channel
  int conv = 4;           ///< taps of the short convolution
  double expand = 2;      ///< inner width / D
  int dt_rank = 0;        ///< rank of the time step's projection; 0: D / 16 rounded up
  double dt_min = 0.001;  ///< initial time steps are log-uniform in [dt_min, dt_max]
  double dt_max = 0.1;
  double dt_floor = 1e-4;    ///< and at least this
  double dt_scale = 1;       ///< of the initial weights of the time step's projection
  bool dt_constant = false;  ///< start those weights at a constant instead of uniform
  bool conv_bias = true;
  bool bias = false;  ///< of the input and output projections
};

namespace mamba {

/// A_log[c, n] = ln(n + 1): the real S4D start.
inline void fill_a_log(const Parameter& p, Index, const Initial::Source&, double* values) {
  for (Index c = 0; c < p.dims[0]; ++c)
    for (Index n = 0; n < p.dims[1]; ++n) values[c * p.dims[1] + n] = std::log(static_cast<double>(n + 1));
}

/// The inverse softplus of a log-uniform time step in [number 0, number 1], at least number 2.
inline void fill_dt_bias(const Parameter& p, Index, const Initial::Source& source, double* values) {
  const double low = std::log(p.initial.number[0]);
  const double high = std::log(p.initial.number[1]);
  for (Index c = 0; c < p.dims[0]; ++c) {
    double dt = std::exp(source.uniform() * (high - low) + low);
    if (dt < p.initial.number[2]) dt = p.initial.number[2];
    values[c] = dt + std::log(-std::expm1(-dt));
  }
}

}  // namespace mamba

/// Mamba (Gu and Dao 2023, algorithm 2 and figure 3): projection to u and a gate, short convolution, input-dependent
/// time step and projections, selective scan, gate, output projection.
template <MambaOptions O>
struct MambaLayer {
  static constexpr std::string_view name = "mamba";
  static constexpr std::string_view shorthand = "Mb";

  static constexpr Value forward(Value x) {
    const int inner = static_cast<int>(O.expand * x.width());
    const int rank = O.dt_rank > 0 ? O.dt_rank : ceil_divide(x.width(), 16);
    const int N = O.state;
    const Value uz = linear(x, 2 * inner, "in_proj", {.bias = O.bias});
    const Value u = short_conv(slice(uz, 0, inner), inner, O.conv, "conv1d", {.bias = O.conv_bias, .silu = true});
    const Value dbc = linear(u, rank + 2 * N, "x_proj");
    const double reach = O.dt_scale / square_root(rank);
    const Value dt_weight = parameter(x, "dt_proj.weight",
                                      {.dims = {inner, rank},
                                       .rank = 2,
                                       .role = Role::matrix,
                                       .initial = O.dt_constant ? Initial::constant(reach) : Initial::uniform(reach)});
    const Value dt_bias = parameter(x, "dt_proj.bias",
                                    {.dims = {inner},
                                     .rank = 1,
                                     .role = Role::bias,
                                     .initial = {.kind = Initial::Kind::filled,
                                                 .fill = &mamba::fill_dt_bias,
                                                 .number = {O.dt_min, O.dt_max, O.dt_floor}},
                                     .reinitialise = false});
    const TimeStep dt = time_step(slice(dbc, 0, rank), dt_weight, dt_bias);
    const Value A_log = parameter(x, "A_log",
                                  {.dims = {inner, N},
                                   .rank = 2,
                                   .initial = {.kind = Initial::Kind::filled, .fill = &mamba::fill_a_log},
                                   .decay = false});
    const Value D = parameter(x, "D", {.dims = {inner}, .rank = 1, .initial = Initial::constant(1), .decay = false});
    const Value y = selective_scan(u, dt, -exp(A_log), slice(dbc, rank, 2 * N), D, slice(uz, inner, inner));
    return linear(y, x.width(), "out_proj", {.bias = O.bias});
  }
};

struct Mamba : MambaLayer<MambaOptions{}> {};

}  // namespace mad
