// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "normed_products.hpp"
#include "bfloat16_rows.hpp"
#include "comparison.hpp"

#include <algorithm>
#include <cmath>

using namespace mad;
using namespace mad::testing;

namespace {

constexpr int width = 128;

struct Map {
  int columns;
  bool bias = false;
  Index behind = 0;  ///< columns of other values between the rows of y
};

/// The rows of a value that are there; what lies between and behind them must be as it was.
std::vector<float> rows_of(const std::vector<std::uint16_t>& bits, Index rows, int columns, Index stride) {
  std::vector<float> values;
  for (std::size_t at = 0; at < bits.size(); ++at) {
    const auto row = static_cast<Index>(at) / stride, column = static_cast<Index>(at) % stride;
    if (row < rows && column < columns)
      values.push_back(value_of(bits[at]));
    else if (bits[at] != not_a_number)
      FAIL("number " << column << " of row " << row << " was written");
  }
  return values;
}

void compare(const std::vector<Map>& maps, Index rows, bool centred, bool bias, Index behind = 0) {
  INFO(maps.size() << " products, " << rows << " rows" << (centred ? ", centred" : "") << (bias ? ", biased" : ""));
  std::mt19937 generator(static_cast<unsigned>(rows));
  std::normal_distribution<float> normal(0.5f);
  NormedProductsCase c;
  c.centred = centred;
  c.epsilon = 1e-5f;
  c.x_stride = c.norm_stride = width + behind;
  c.x = random_rows(rows, width, c.x_stride, generator);
  c.norm.assign(static_cast<std::size_t>((rows + 70) * c.norm_stride), not_a_number);
  c.weight.resize(width);
  for (float& w : c.weight) w = normal(generator);
  if (bias) c.bias = c.weight;
  for (float& b : c.bias) b = normal(generator);
  for (const Map& m : maps)
    c.products.push_back(
        {.columns = m.columns,
         .stride = m.columns + m.behind,
         .weight = random_rows(m.columns, width, width, generator),
         .bias = m.bias ? random_rows(1, m.columns, m.columns, generator) : std::vector<std::uint16_t>{},
         .y =
             std::vector<std::uint16_t>(static_cast<std::size_t>((rows + 70) * (m.columns + m.behind)), not_a_number)});
  NormedProductsCase found = c;
  if (!multiply_norm_on_device(found, rows)) {
    WARN("skipped: this device multiplies without warpgroups");
    return;
  }
  std::vector<double> norm;
  for (Index r = 0; r < rows; ++r) {
    const auto x = [&](Index i) { return double{value_of(c.x[static_cast<std::size_t>(r * c.x_stride + i)])}; };
    double mean = 0, square = 0;
    for (Index i = 0; i < width && centred; ++i) mean += x(i) / width;
    for (Index i = 0; i < width; ++i) square += (x(i) - mean) * (x(i) - mean) / width;
    for (std::size_t i = 0; i < width; ++i)
      norm.push_back((x(static_cast<Index>(i)) - mean) / std::sqrt(square + double{c.epsilon}) * c.weight[i] +
                     (bias ? c.bias[i] : 0.0f));
  }
  const std::vector<float> normed = rows_of(found.norm, rows, width, c.norm_stride);
  CHECK(distance(std::span<const float>(normed), std::span<const double>(norm)) < half_step);
  for (std::size_t p = 0; p < maps.size(); ++p) {
    INFO("product " << p << ", " << maps[p].columns << " columns");
    const NormedProductsCase::Product& of = c.products[p];
    std::vector<double> y;
    for (Index r = 0; r < rows; ++r)
      for (Index o = 0; o < of.columns; ++o) {
        double sum = of.bias.empty() ? 0.0 : value_of(of.bias[static_cast<std::size_t>(o)]);
        // The product is one of the norm as it is stored.
        for (Index i = 0; i < width; ++i)
          sum += double{normed[static_cast<std::size_t>(r * width + i)]} *
                 value_of(of.weight[static_cast<std::size_t>(o * width + i)]);
        y.push_back(sum);
      }
    const std::vector<float> values = rows_of(found.products[p].y, rows, of.columns, of.stride);
    CHECK(distance(std::span<const float>(values), std::span<const double>(y)) < half_step);
  }
}

}  // namespace

TEST_CASE("products of a norm in its kernel agree with sums in double precision") {
  if (no_device()) return;
  for (const Index rows : {1, 16, 63, 64, 65, 129, 1000, 17000})
    for (const bool centred : {false, true})
      for (const bool bias : {false, true}) {
        if (rows > 1000 && centred != bias) continue;
        compare({{.columns = 384, .bias = true}}, rows, centred, bias);
        compare({{.columns = 8, .behind = 8}, {.columns = 200, .bias = true}, {.columns = 72, .behind = 56}}, rows,
                centred, bias, 8);
      }
  for (const int columns : {8, 64, 128, 136, 512}) compare({{.columns = columns}}, 100, true, true);
  compare({{.columns = 128, .bias = true}, {.columns = 128}, {.columns = 128}, {.columns = 128, .bias = true}}, 333,
          false, false);
}
