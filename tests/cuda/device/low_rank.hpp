// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Two products with few columns between, by themselves and in layers.
#pragma once

#include <mad/layers/mamba.hpp>
#include <mad/models/model.hpp>

#include <cstdint>
#include <vector>

namespace mad::testing {

/// z = x W1 and y = z' W2 + bias + addend; operands as bits of bfloat16 in rows of whole strides.
struct LowRankCase {
  int inner = 0;
  int middle = 0;
  int columns = 0;
  int from = 0;            ///< z' begins at this column of z, before it where negative
  int used = 0;            ///< columns of z'
  bool in_out = false;     ///< of both weights
  bool adds_to_y = false;  ///< y is the addend
  Index x_stride = 0;
  Index z_stride = 0;
  Index z_column = 0;  ///< of its rows in memory
  Index y_stride = 0;
  std::vector<std::uint16_t> x = {};
  std::vector<std::uint16_t> first = {};
  std::vector<std::uint16_t> z = {};
  std::vector<std::uint16_t> second = {};
  std::vector<std::uint16_t> y = {};
  std::vector<std::uint16_t> bias = {};    ///< empty without one
  std::vector<std::uint16_t> addend = {};  ///< empty without one; its stride is y's
};

/// Computes z and y in one kernel.
void multiply_low_rank_on_device(LowRankCase& c, Index rows);

/// What keeps a product from being computed with the one that was put off before it.
enum class Unlike {
  nothing,
  other_memory,     ///< it reads other rows
  beside,           ///< it reads other columns of the same rows
  other_stride,     ///< its rows lie in another way
  other_order,      ///< its weight is stored the other way
  first_adds,       ///< the first has an addend
  first_shifts,     ///< the first has a bias
  two_are_put_off,  ///< another product waits with the first
  has_started,      ///< the first has started, since a step between had to do with it
  adds_middle,      ///< its addend is z
  writes_x,         ///< it writes over x
  odd_width,        ///< it has columns that are no multiple of 32
  many_between,     ///< 32 columns and a bias
  narrow            ///< it is a product for groups
};
/// True if the second of two products is computed with the first.
bool follows_on_device(Unlike unlike);

/// A part of few columns goes on, by a map with a bias; another map adds to what it has made.
struct PartOfFew {
  static constexpr std::string_view name = "part of few";

  static constexpr Value forward(Value x) {
    const Value u = linear(x, 256, "up");
    const Value z = linear(u, 24, "down");
    const Value y = linear(slice(z, 8, 16), 256, "part", {.bias = true}) * u;
    return linear(y, x.width(), "out") + linear(linear(linear(x, 8, "few"), 192, "wide"), x.width(), "back");
  }
};
/// A step stands between.
struct StepBetween {
  static constexpr std::string_view name = "step between";

  static constexpr Value forward(Value x) {
    const Value z = linear(linear(x, 256, "up"), 16, "down");
    const Value shifted = short_conv(z, 16, 3, "conv", {.bias = true});
    return linear(linear(shifted, 256, "wide") * linear(z, 256, "beside"), x.width(), "out");
  }
};

/// The gradient of the last layer comes first: what it reads too early is NaN.
using LowRankNet = Stack<Mamba, StepBetween, PartOfFew>;

}  // namespace mad::testing
