// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "product_group.hpp"
#include "bfloat16_rows.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

namespace {

struct Map {
  int columns;
  std::vector<int> inner;
  bool bias = false;
  bool addend = false;
  bool adds_to_y = false;
  Index behind = 0;  ///< columns of other values between the rows of x and y
};

std::vector<double> expected(const ProductCase& p, Index rows) {
  std::vector<double> y;
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < p.columns; ++c) {
      const auto at = static_cast<std::size_t>(r * p.y_stride + c);
      double sum = p.adds_to_y ? value_of(p.y[at]) : 0;
      if (!p.addend.empty()) sum += value_of(p.addend[at]);
      if (!p.bias.empty()) sum += value_of(p.bias[static_cast<std::size_t>(c)]);
      for (const ProductCase::Term& t : p.terms)
        for (Index k = 0; k < t.inner; ++k)
          sum += static_cast<double>(value_of(t.x[static_cast<std::size_t>(r * t.x_stride + k)])) *
                 value_of(t.weight[static_cast<std::size_t>(t.in_out ? k * p.columns + c : c * t.inner + k)]);
      y.push_back(sum);
    }
  return y;
}

void compare(const std::vector<Map>& maps, Index rows, bool in_out) {
  INFO(maps.size() << " products, " << rows << " rows, in_out " << in_out);
  std::mt19937 generator(static_cast<unsigned>(rows));
  std::vector<ProductCase> cases;
  for (const Map& m : maps) {
    ProductCase p;
    p.columns = m.columns;
    p.y_stride = m.columns + m.behind;
    for (const int inner : m.inner) {
      const Index stride = inner + m.behind;
      p.terms.push_back({.inner = inner,
                         .in_out = in_out != (p.terms.size() == 1),  // a second term is stored the other way
                         .x_stride = stride,
                         .x = random_rows(rows, inner, stride, generator),
                         .weight = random_rows(m.columns, inner, inner, generator)});
    }
    p.y = random_rows(rows, m.adds_to_y ? m.columns : 0, p.y_stride, generator);
    if (m.bias) p.bias = random_rows(1, m.columns, m.columns, generator);
    if (m.addend) p.addend = random_rows(rows, m.columns, p.y_stride, generator);
    p.adds_to_y = m.adds_to_y;
    cases.push_back(std::move(p));
  }
  std::vector<ProductCase> found = cases;
  multiply_together_on_device(found, rows);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    INFO("product " << i << ", " << cases[i].columns << " columns");
    std::vector<float> y;
    bool others_are_left_alone = true;
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cases[i].y_stride; ++c) {
        const std::uint16_t bits = found[i].y[static_cast<std::size_t>(r * cases[i].y_stride + c)];
        if (c < cases[i].columns)
          y.push_back(value_of(bits));
        else
          others_are_left_alone = others_are_left_alone && bits == not_a_number;
      }
    CHECK(others_are_left_alone);
    CHECK(distance(std::span<const float>(y), std::span<const double>(expected(cases[i], rows))) < half_step);
  }
  std::vector<ProductCase> again = cases;
  multiply_together_on_device(again, rows);
  for (std::size_t i = 0; i < cases.size(); ++i) CHECK(again[i].y == found[i].y);
}

}  // namespace

TEST_CASE("products side by side agree with sums in double precision") {
  if (no_device()) return;
  for (const bool in_out : {false, true})
    for (const Index rows : {1, 63, 64, 65, 513, 4099}) {
      const Map square{.columns = 128, .inner = {128}};
      compare({square, square, square, square}, rows, in_out);
      compare({{.columns = 128, .inner = {32}, .behind = 128}, {.columns = 128, .inner = {32}, .bias = true}}, rows,
              in_out);
      compare({{.columns = 32, .inner = {128}, .behind = 128}, {.columns = 24, .inner = {128}}}, rows, in_out);
    }
}

TEST_CASE("products that are added up agree with sums in double precision") {
  if (no_device()) return;
  for (const bool in_out : {false, true})
    for (const Index rows : {1, 100, 2085}) {
      compare({{.columns = 128, .inner = {128, 128, 128}, .adds_to_y = true}}, rows, in_out);
      compare({{.columns = 128, .inner = {128, 16, 40, 128, 128}, .bias = true, .addend = true, .behind = 8},
               {.columns = 64, .inner = {64, 64}}},
              rows, in_out);
    }
}

TEST_CASE("narrow and wide products side by side agree with sums in double precision") {
  if (no_device()) return;
  for (const bool in_out : {false, true})
    for (const Index rows : {1, 100, 1030}) {
      compare({{.columns = 256, .inner = {128}, .bias = true, .behind = 40},
               {.columns = 120, .inner = {256, 136}},
               {.columns = 8, .inner = {8}},
               {.columns = 200, .inner = {104}, .addend = true},
               {.columns = 72, .inner = {24}, .behind = 8}},
              rows, in_out);
      compare(std::vector<Map>(16, {.columns = 40, .inner = {8}, .bias = true}), rows, in_out);
      compare(std::vector<Map>(5, {.columns = 8, .inner = {16, 8}, .behind = 16}), rows, in_out);
    }
}
