// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The long filters of the Hyena family: implicit, or by their transfer functions.
#pragma once

#include <mad/layers/implicit_filter.hpp>
#include <mad/ops/rational_filter.hpp>

namespace mad {

/// How a Hyena layer makes its long filters.
enum class FilterKind {
  implicit,  ///< a small network of the position: `FilterOptions`
  rational,  ///< rational transfer functions: `RationalFilterOptions` (`rtf` in the reference)
};

/// Initial coefficients of rational filters, N of each.
enum class RationalInit {
  zeros,
  uniform_root,   ///< uniform on [-1/sqrt(N), 1/sqrt(N)]
  uniform_state,  ///< uniform on [-1/N, 1/N]
};

struct RationalFilterOptions {
  int state = 16;        ///< N, coefficients of a numerator and of a denominator; see `rational_filter`
  int denominators = 0;  ///< filters in neighbouring channels share one; divides the channels; 0: one per channel
  RationalInit init = RationalInit::zeros;
};

/// Filters h (positions, channels) by their rational transfer functions (Parnichkun et al. 2024), with the parameters
/// `ab` and `h_0` under the current scope. The reference never registers them, so that its optimisers do not train
/// them; here they are trained. N should be less than the maximum length, which is known at run time only: the
/// reference refuses others, here coefficients beyond wrap around as the response does.
constexpr Value rational_filter(Value x, int channels, const RationalFilterOptions& o, int line = __builtin_LINE()) {
  const int denominators = o.denominators > 0 ? o.denominators : channels;
  if (o.state < 1) x.graph->fail(Fault::bad_option, o.state, 1, line);
  if (channels % denominators != 0) x.graph->fail(Fault::not_divisible, channels, denominators, line);
  const int state = o.state < 1 ? 1 : o.state;
  const double reach = o.init == RationalInit::zeros          ? 0
                       : o.init == RationalInit::uniform_root ? 1 / square_root(state)
                                                              : 1.0 / state;
  const Value ab =
      parameter(x, "ab", {.dims = {denominators + channels, state}, .rank = 2, .initial = Initial::uniform(reach)});
  const Value h_0 = parameter(x, "h_0", {.dims = {channels}, .rank = 1, .initial = Initial::normal(1)});
  return rational_filter(ab, h_0, state, line);
}

/// The filters (positions, channels) that a Hyena layer's options ask for, parameters `long_conv.filter.*`. `Options`
/// has `filter_kind`, `filter` and `rational`.
template <class Options>
constexpr Value hyena_filter(Value x, int channels, const Options& o, int line = __builtin_LINE()) {
  Scope scope(x, "long_conv.filter");
  if (o.filter_kind == FilterKind::rational) return rational_filter(x, channels, o.rational, line);
  return implicit_filter(x, channels, o.filter, line);
}

}  // namespace mad
