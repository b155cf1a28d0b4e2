// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Little layers, each made to lead the differentiator or the planner into one temptation.
#pragma once

#include <mad/graph/layer.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/linear.hpp>
#include <mad/ops/norm.hpp>
#include <mad/ops/short_conv.hpp>

namespace mad::testing {

#define MAD_LITTLE_LAYER(NAME)                      \
  struct NAME {                                     \
    static constexpr std::string_view name = #NAME; \
    static constexpr Value forward(Value x);        \
  };                                                \
  constexpr Value NAME::forward([[maybe_unused]] Value x)

constexpr Value vector(Value x, Name name, int width, double start = 0.5) {
  return parameter(x, name, {.dims = {width}, .rank = 1, .initial = Initial::constant(start)});
}
/// One row per position, shared by the batch.
constexpr Value table(Value x, Name name, int width) {
  return parameter(x, name, {.dims = {Parameter::per_max_length, width}, .rank = 2, .initial = Initial::uniform(1)});
}

// Values and gradients that are used several times.

MAD_LITTLE_LAYER(UsedTwice) {
  const Value y = silu(x);
  return y * y + y;
}
MAD_LITTLE_LAYER(SquaredByItself) {
  const Value y = linear(x, x.width(), "w");
  return y * y;
}
/// The gradient of p + q is one value for both, and only p has another contribution that it can be added to.
MAD_LITTLE_LAYER(SharedContribution) {
  const Value p = x * 2.0;
  const Value q = x * 3.0;
  return linear(p + q, x.width(), "w") * p;
}
MAD_LITTLE_LAYER(SharedContributionDeeper) {
  const Value p = sin(x);
  const Value q = linear(x, x.width(), "q");
  const Value r = p + q;
  return linear(r + p, x.width(), "w") * r + linear(p, x.width(), "v") * q;
}
MAD_LITTLE_LAYER(ManyLinearReaders) {
  const Value a = linear(x, 3, "a");
  const Value b = linear(x, 5, "b");
  const Value c = linear(x, 3, "c");
  return linear(a * c, x.width(), "d") + linear(b, x.width(), "e") + x;
}
MAD_LITTLE_LAYER(ParameterTwice) {
  const Value w = parameter(x, "w", {.dims = {x.width(), x.width()}, .rank = 2, .initial = Initial::uniform(0.5)});
  const Value v = vector(x, "v", x.width());
  return linear(linear(x, w) * v, w, v) + v;
}

/// One gradient of a sum is that of two parameters.
MAD_LITTLE_LAYER(SharedParameterGradient) {
  const Value p = vector(x, "p", x.width());
  const Value q = vector(x, "q", x.width());
  return x * (p + q) + (q + table(x, "r", x.width()));
}

// Slices.

MAD_LITTLE_LAYER(OverlappingSlices) {
  const int w = x.width();
  const Value a = linear(x, w + 4, "a");
  return slice(a, 0, w) * slice(a, 2, w) + slice(a, 4, w);
}
MAD_LITTLE_LAYER(SliceOfSlice) {
  const int w = x.width();
  const Value a = slice(exp(linear(x, 2 * w, "a") * 0.1), 1, 2 * w - 1);
  return slice(a, 1, w) * slice(slice(a, 2, w + 2), 1, w);
}
MAD_LITTLE_LAYER(SliceBesideItsBase) {
  const int w = x.width();
  const Value a = silu(linear(x, w, "a"));
  return linear(slice(a, 1, w - 1), w, "b") * a + linear(slice(a, 0, 1), w, "c");
}
MAD_LITTLE_LAYER(ManySlicesWithGaps) {
  const Value a = linear(x, 30, "a");
  Value sum = slice(a, 28, 1) * slice(a, 1, 1);
  for (int k = 0; k < 10; ++k) sum = sum + slice(a, 3 * k, 2) * slice(a, 29 - k, 1);
  return linear(sum, x.width(), "b");
}
MAD_LITTLE_LAYER(SlicesOfInputAndParameter) {
  const int half = x.width() / 2;
  const Value v = vector(x, "v", 3 * half);
  const Value gate = slice(v, half, half) * slice(v, 2 * half, half);
  return linear(slice(x, half, half) * gate + slice(v, 0, half), x.width(), "w");
}
/// The gaps are zeros, which are known before any batch; the rest is not.
MAD_LITTLE_LAYER(SlicesOfAParameterWithGaps) {
  const Value v = vector(x, "v", 12);
  return linear(slice(x, 0, 3) * slice(v, 1, 3) + sin(slice(v, 7, 3)), x.width(), "w");
}
/// The sum is as wide as the value that it reads a single column of, and outlives it. Neither is read backward.
MAD_LITTLE_LAYER(ColumnOfADyingValue) {
  const Value a = linear(x, x.width(), "a");
  return sum_to(slice(a, 1, 1) + silu(x), Domain::tokens, x.width() / 2);
}
MAD_LITTLE_LAYER(OutputIsASlice) {
  const int w = x.width();
  return slice(linear(x, 2 * w, "a"), w, w);
}

// Concats.

MAD_LITTLE_LAYER(ConcatOfSharedParts) {
  const Value p = exp(x * 0.1);
  const Value twice = concat(p, p);
  const Value mixed = concat(p, x);
  return linear(twice, x.width(), "a") + linear(mixed, x.width(), "b") * p;
}
MAD_LITTLE_LAYER(ConcatOfViews) {
  const int w = x.width();
  const Value a = linear(x, 2 * w, "a");
  return linear(sin(concat(slice(a, w, w), slice(a, 0, w), slice(a, 1, 3))), w, "b");
}
MAD_LITTLE_LAYER(ConcatOfConcat) {
  const Value inner = concat(linear(x, 3, "a"), silu(x));
  const Value outer = concat(inner, linear(x, 2, "b"), concat(tanh(x), linear(x, 1, "c")));
  return linear(outer, x.width(), "d");
}
MAD_LITTLE_LAYER(ConcatAndItsPartRead) {
  const Value a = linear(x, x.width(), "a");
  const Value b = linear(x, x.width(), "b");
  const Value c = concat(a, b);
  return linear(c, x.width(), "c") * b + slice(c, 1, x.width());
}
MAD_LITTLE_LAYER(ConcatTwice) {
  const Value a = linear(x, 3, "a");
  return linear(concat(a, sin(x)), x.width(), "b") + linear(concat(cos(x), a), x.width(), "c");
}
MAD_LITTLE_LAYER(ConcatOfEight) {
  const Value a = linear(x, 8, "a");
  const Value c = concat(slice(a, 7, 1), sin(slice(a, 6, 1)), slice(a, 5, 1), exp(slice(a, 4, 1)), slice(a, 3, 1),
                         linear(x, 2, "b"), slice(a, 1, 1), linear(x, 1, "c"));
  return linear(c, x.width(), "d");
}
MAD_LITTLE_LAYER(OutputIsAConcat) {
  const int half = x.width() / 2;
  return concat(linear(x, half, "a"), silu(slice(x, half, x.width() - half)));
}

// Repeated columns and sums over columns.

MAD_LITTLE_LAYER(TileAndSpread) {
  const int half = x.width() / 2;
  const Value a = sin(slice(x, 0, half));
  return tile(a, 2 * half) * spread(slice(x, half, half), 2 * half) + spread(tile(a, 2 * half), 2 * half);
}
MAD_LITTLE_LAYER(TileOnly) { return tile(linear(x, x.width() / 4, "a"), x.width()); }
MAD_LITTLE_LAYER(SingleColumns) {
  const Value one = linear(x, 1, "a");
  return one / (x * x + 1.0) - x * one + (one - x) * tile(one, x.width()) + spread(one, x.width());
}
MAD_LITTLE_LAYER(ColumnSums) {
  const int half = x.width() / 2;
  const Value folded = sum_to(x * x, Domain::tokens, half, Fold::tile) * sum_to(x, Domain::tokens, half, Fold::spread);
  return linear(folded, x.width(), "a") * sum_to(sin(x), Domain::tokens, 1);
}

// Values that the batch shares.

MAD_LITTLE_LAYER(PositionsAndOne) {
  const Value p = table(x, "p", x.width());
  const Value g = vector(x, "g", x.width());
  const Value h = sin(p * g) + g * g;
  return x * h + h * exp(g * 0.5) + p * linear(x, 1, "w");
}
MAD_LITTLE_LAYER(NetworkOfThePosition) {
  const Value p = table(x, "p", 3);
  const Value a = sin(linear(p, 4, "a", {.bias = true}));
  const Value b = concat(a, slice(linear(a, 6, "b"), 1, 4), tile(p, 6));
  return x * layer_norm(linear(b, x.width(), "c"));
}
MAD_LITTLE_LAYER(WeightsFromAParameter) {
  const Value v = vector(x, "v", 3);
  const Value made = linear(tanh(v), x.width() * x.width(), "a", {.bias = true});
  return linear(x, made) + linear(sin(x), made) * slice(made, 0, x.width());
}
MAD_LITTLE_LAYER(OneColumnPerPosition) {
  const Value decay = table(x, "decay", 1);
  return x * exp(-square(decay)) + decay;
}
MAD_LITTLE_LAYER(SharedSums) {
  const Value v = vector(x, "v", 2 * x.width());
  const Value p = table(x, "p", x.width());
  const Value folded = sum_to(v * v, Domain::one, x.width(), Fold::spread);
  const Value mixed = sum_to(tile(p, 2 * x.width()) * sin(v), Domain::positions, x.width());
  return x * mixed + folded + sum_to(p, Domain::one, x.width()) * sum_to(exp(p), Domain::one, 1);
}

// Ends of the graph.

MAD_LITTLE_LAYER(OutputIsTheInput) { return x; }
MAD_LITTLE_LAYER(OutputIsRead) {
  const Value y = exp(x * 0.2);
  const Value unused = linear(y, x.width(), "unused");
  static_cast<void>(unused);
  return y;
}
MAD_LITTLE_LAYER(InputUnused) { return vector(x, "v", x.width()) + zeros(*x.graph, Domain::tokens, x.width()); }
MAD_LITTLE_LAYER(OnlyPositions) { return sin(table(x, "p", x.width())) * 2.0 + zeros(*x.graph, Domain::tokens, 1); }
MAD_LITTLE_LAYER(NoParameters) { return x * sigmoid(x); }
MAD_LITTLE_LAYER(ResidualTwice) {
  const Value y = x + linear(rms_norm(x), x.width(), "a");
  return y + linear(silu(y), x.width(), "b") + x;
}

// Long runs of elementwise nodes.

MAD_LITTLE_LAYER(ChainWithSeveralOutputs) {
  Value a = x;
  Value b = x * 0.5;
  Value sum = linear(x, x.width(), "w0");
  for (int k = 0; k < 4; ++k) {
    a = sin(a + b);
    b = tanh(b * a);
  }
  sum = sum + linear(a, x.width(), "w1") * linear(b, x.width(), "w2");
  for (int k = 0; k < 3; ++k) a = cos(a) + b;
  return sum * a + b;
}
/// More elementwise nodes, without a kernel in between, than one loop may hold.
MAD_LITTLE_LAYER(LongerThanARun) {
  Value a = x;
  for (int k = 0; k < 34; ++k) a = k % 2 == 0 ? sin(a) : a * 1.1;
  return a;
}

// Kernels that are computed once more in the backward pass.

MAD_LITTLE_LAYER(CheapKernels) {
  const Value normed = layer_norm(x);
  const Value shifted = silu(short_conv(normed, 2 * x.width(), 3, "conv"));
  Scope scope(x, "heads");
  return linear(shifted, x.width(), "a") * rms_norm_heads(normed, x.width() / 2);
}
MAD_LITTLE_LAYER(ConvolutionTwice) {
  const Value once = short_conv(x, x.width(), 2, "first", {.bias = false});
  return short_conv(once * x, x.width(), 4, "second") + once;
}

#undef MAD_LITTLE_LAYER

template <class... L>
struct Layers {};
/// All of them; in groups, so that no file of tests takes long to compile.
using LayersOnReuse = Layers<UsedTwice, SquaredByItself, SharedContribution, SharedContributionDeeper,
                             ManyLinearReaders, ParameterTwice, SharedParameterGradient>;
using LayersOnSlices =
    Layers<OverlappingSlices, SliceOfSlice, SliceBesideItsBase, ManySlicesWithGaps, SlicesOfInputAndParameter,
           SlicesOfAParameterWithGaps, ColumnOfADyingValue, OutputIsASlice>;
using LayersOnConcats = Layers<ConcatOfSharedParts, ConcatOfViews, ConcatOfConcat, ConcatAndItsPartRead, ConcatTwice,
                               ConcatOfEight, OutputIsAConcat>;
using LayersOnColumns = Layers<TileAndSpread, TileOnly, SingleColumns, ColumnSums>;
using LayersOnSharedValues =
    Layers<PositionsAndOne, NetworkOfThePosition, WeightsFromAParameter, OneColumnPerPosition, SharedSums>;
using LayersOnEnds = Layers<OutputIsTheInput, OutputIsRead, InputUnused, OnlyPositions, NoParameters, ResidualTwice>;
using LayersOnRuns = Layers<ChainWithSeveralOutputs, LongerThanARun, CheapKernels, ConvolutionTwice>;

}  // namespace mad::testing
