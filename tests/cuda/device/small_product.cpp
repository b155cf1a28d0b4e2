// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "small_product.hpp"
#include "comparison.hpp"

#include <limits>

using namespace mad;
using namespace mad::testing;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Sizes {
  Index rows, columns, inner;
};
/// What may be added to a product.
enum class Sum { alone, bias, addend, bias_and_addend, bias_and_result };

/// `rows` x `columns` random numbers; those behind them in each row are NaN.
std::vector<float> random_matrix(Index rows, Index columns, Index stride, std::mt19937& generator) {
  std::normal_distribution<float> normal(0.1f);
  std::vector<float> values(static_cast<std::size_t>(rows * stride), not_a_number);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) values[static_cast<std::size_t>(r * stride + c)] = normal(generator);
  return values;
}

/// Rows of \p columns numbers, or columns of \p rows, a few of another value behind each.
std::vector<float> random_factor(Index rows, Index columns, bool transposed, Index behind, Index& stride,
                                 std::mt19937& generator) {
  stride = (transposed ? rows : columns) + behind;
  return random_matrix(transposed ? columns : rows, transposed ? rows : columns, stride, generator);
}

std::vector<double> expected(const SmallProductCase& p) {
  std::vector<double> c;
  const auto at = [](const std::vector<float>& m, Index stride, bool transposed, Index row, Index column) {
    return static_cast<double>(m[static_cast<std::size_t>(transposed ? column * stride + row : row * stride + column)]);
  };
  for (Index r = 0; r < p.rows; ++r)
    for (Index i = 0; i < p.columns; ++i) {
      double sum = p.adds_to_c ? at(p.c, p.c_stride, false, r, i) : 0;
      if (!p.addend.empty()) sum += at(p.addend, p.c_stride, false, r, i);
      if (!p.bias.empty()) sum += static_cast<double>(p.bias[static_cast<std::size_t>(i)]);
      for (Index k = 0; k < p.inner; ++k)
        sum += at(p.a, p.a_stride, p.a_transposed, r, k) * at(p.b, p.b_stride, p.b_transposed, k, i);
      c.push_back(sum);
    }
  return c;
}

void compare(const Sizes& sizes, bool a_transposed, bool b_transposed, Index behind, Sum sum) {
  INFO(sizes.rows << " x " << sizes.inner << (a_transposed ? ", transposed" : "") << ", by " << sizes.inner << " x "
                  << sizes.columns << (b_transposed ? ", transposed" : "") << ", " << behind
                  << " numbers between rows, "
                  << "added: " << static_cast<int>(sum));
  std::mt19937 generator(static_cast<unsigned>(sizes.rows * 7 + sizes.columns * 3 + sizes.inner));
  SmallProductCase p{.rows = sizes.rows,
                     .columns = sizes.columns,
                     .inner = sizes.inner,
                     .a_transposed = a_transposed,
                     .b_transposed = b_transposed,
                     .adds_to_c = sum == Sum::bias_and_result,
                     .c_stride = sizes.columns + behind};
  p.a = random_factor(p.rows, p.inner, a_transposed, behind, p.a_stride, generator);
  p.b = random_factor(p.inner, p.columns, b_transposed, behind, p.b_stride, generator);
  p.c = random_matrix(p.rows, p.adds_to_c ? p.columns : 0, p.c_stride, generator);
  if (sum != Sum::alone && sum != Sum::addend) p.bias = random_matrix(1, p.columns, p.columns, generator);
  if (sum == Sum::addend || sum == Sum::bias_and_addend)
    p.addend = random_matrix(p.rows, p.columns, p.c_stride, generator);
  SmallProductCase found = p;
  multiply_on_device(found);
  std::vector<float> c;
  bool others_are_left_alone = true;
  for (Index r = 0; r < p.rows; ++r)
    for (Index i = 0; i < p.c_stride; ++i) {
      const float value = found.c[static_cast<std::size_t>(r * p.c_stride + i)];
      if (i < p.columns)
        c.push_back(value);
      else
        others_are_left_alone = others_are_left_alone && std::isnan(value);
    }
  CHECK(others_are_left_alone);
  CHECK(distance(std::span<const float>(c), std::span<const double>(expected(p))) < 1e-6);
}

}  // namespace

TEST_CASE("small products in float agree with sums in double precision") {
  if (no_device()) return;
  // Those of the filters' networks, and others of every cut: few and many terms, wide and narrow, with remainders.
  const Sizes table[] = {{128, 4, 3},    {128, 4, 4},    {128, 512, 4},  {128, 4, 512}, {128, 3, 4},   {128, 16, 16},
                         {128, 128, 16}, {128, 16, 128}, {128, 2, 8},    {1, 1, 1},     {1, 1, 1000},  {1, 1000, 1},
                         {1000, 1, 1},   {37, 5, 77},    {130, 131, 17}, {201, 99, 63}, {77, 250, 65}, {5, 6, 2500},
                         {64, 64, 512},  {1023, 511, 4}, {3, 7, 31},     {300, 1, 600}};
  for (const Sizes& sizes : table)
    for (const bool b_transposed : {false, true}) {
      compare(sizes, false, b_transposed, 0, Sum::alone);
      compare(sizes, true, b_transposed, 3, Sum::bias_and_addend);
      compare(sizes, false, b_transposed, 5, Sum::bias_and_result);
    }
  for (const Sum sum : {Sum::bias, Sum::addend}) compare({66, 67, 68}, false, true, 1, sum);
}

TEST_CASE("a row of a small product depends neither on the rows around it nor on how the product is cut") {
  if (no_device()) return;
  std::mt19937 generator(1);
  SmallProductCase many{.rows = 300, .columns = 64, .inner = 30, .a_stride = 30, .b_stride = 64, .c_stride = 64};
  many.a = random_matrix(300, 30, 30, generator);
  many.b = random_matrix(30, 64, 64, generator);
  many.c.resize(300 * 64);
  SmallProductCase few = many;
  few.rows = 5;
  few.a.resize(5 * 30);
  few.c.resize(5 * 64);
  multiply_on_device(many);
  multiply_on_device(few);
  many.c.resize(few.c.size());
  CHECK(many.c == few.c);
}
