// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "low_rank.hpp"
#include "bfloat16_rows.hpp"
#include "comparison.hpp"

#include <algorithm>

using namespace mad;
using namespace mad::testing;

namespace {

/// What the two products have in common, and how they are put together.
struct Form {
  int inner;
  int middle;
  int columns;
  int from;
  int used;
  bool bias = false;
  bool addend = false;
  bool adds_to_y = false;
};

LowRankCase random_case(const Form& f, Index rows, bool in_out) {
  std::mt19937 generator(static_cast<unsigned>(rows + f.inner + f.columns));
  LowRankCase c{.inner = f.inner,
                .middle = f.middle,
                .columns = f.columns,
                .from = f.from,
                .used = f.used,
                .in_out = in_out,
                .adds_to_y = f.adds_to_y,
                .x_stride = f.inner + 8,
                .z_stride = 80,
                .z_column = 32,
                .y_stride = f.columns + 16};
  c.x = random_rows(rows, 0, f.inner, c.x_stride, generator);
  c.first = random_rows(f.middle, 0, f.inner, f.inner, generator);
  // z itself is NaN until it is written, and so is what is not in z'.
  c.z = random_rows(rows, c.z_column + f.from, c.z_column + f.from + f.used, c.z_stride, generator);
  for (Index r = 0; r < rows; ++r) std::fill_n(c.z.begin() + r * c.z_stride + c.z_column, f.middle, not_a_number);
  c.second = random_rows(f.columns, 0, f.used, f.used, generator);
  c.y = random_rows(rows, 0, f.adds_to_y ? f.columns : 0, c.y_stride, generator);
  if (f.bias) c.bias = random_rows(1, 0, f.columns, f.columns, generator);
  if (f.addend) c.addend = random_rows(rows, 0, f.columns, c.y_stride, generator);
  return c;
}

/// The sum of products of row r of x with column c of a weight.
double sum_of(const std::vector<std::uint16_t>& x, Index first, int inner, const std::vector<std::uint16_t>& weight,
              bool in_out, int columns, Index c) {
  double sum = 0;
  for (Index k = 0; k < inner; ++k)
    sum += static_cast<double>(value_of(x[static_cast<std::size_t>(first + k)])) *
           value_of(weight[static_cast<std::size_t>(in_out ? k * columns + c : c * inner + k)]);
  return sum;
}

void compare(const Form& f, Index rows, bool in_out) {
  INFO(rows << " rows, " << f.inner << " to " << f.middle << ", " << f.used << " from " << f.from << " on to "
            << f.columns << ", in_out " << in_out);
  const LowRankCase before = random_case(f, rows, in_out);
  LowRankCase found = before;
  multiply_low_rank_on_device(found, rows);
  std::vector<float> z, y;
  std::vector<double> expected_z, expected_y;
  bool others_are_left_alone = true;
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < before.z_stride; ++c) {
      const auto at = static_cast<std::size_t>(r * before.z_stride + c);
      const Index column = c - before.z_column;
      if (column < 0 || column >= f.middle) {
        others_are_left_alone = others_are_left_alone && found.z[at] == before.z[at];
        continue;
      }
      z.push_back(value_of(found.z[at]));
      expected_z.push_back(sum_of(before.x, r * before.x_stride, f.inner, before.first, in_out, f.middle, column));
    }
    for (Index c = 0; c < before.y_stride; ++c) {
      const auto at = static_cast<std::size_t>(r * before.y_stride + c);
      if (c >= f.columns) {
        others_are_left_alone = others_are_left_alone && found.y[at] == before.y[at];
        continue;
      }
      y.push_back(value_of(found.y[at]));
      double sum = f.adds_to_y ? value_of(before.y[at]) : 0;
      if (f.addend) sum += value_of(before.addend[at]);
      if (f.bias) sum += value_of(before.bias[static_cast<std::size_t>(c)]);
      // The z that was stored is the one that is multiplied with.
      sum +=
          sum_of(found.z, r * before.z_stride + before.z_column + f.from, f.used, before.second, in_out, f.columns, c);
      expected_y.push_back(sum);
    }
  }
  CHECK(others_are_left_alone);
  CHECK(distance(std::span<const float>(z), std::span<const double>(expected_z)) < half_step);
  CHECK(distance(std::span<const float>(y), std::span<const double>(expected_y)) < half_step);
  LowRankCase again = before;
  multiply_low_rank_on_device(again, rows);
  CHECK(again.z == found.z);
  CHECK(again.y == found.y);
}

}  // namespace

TEST_CASE("two products with few columns between agree with sums in double precision") {
  if (no_device()) return;
  for (const bool in_out : {false, true})
    for (const Index rows : {1, 3, 17, 64, 1000})
      for (const Form& f :
           {Form{.inner = 256, .middle = 16, .columns = 256, .from = 0, .used = 8, .bias = true},
            Form{.inner = 256, .middle = 8, .columns = 256, .from = 0, .used = 16, .adds_to_y = true},
            Form{.inner = 256, .middle = 8, .columns = 256, .from = -8, .used = 16, .bias = true},
            Form{.inner = 256, .middle = 16, .columns = 32, .from = 8, .used = 8, .addend = true},
            Form{.inner = 96, .middle = 24, .columns = 128, .from = -8, .used = 16, .bias = true, .adds_to_y = true},
            Form{.inner = 32, .middle = 32, .columns = 256, .from = 0, .used = 32},
            Form{.inner = 128, .middle = 8, .columns = 96, .from = -16, .used = 24, .bias = true, .addend = true},
            Form{.inner = 256, .middle = 32, .columns = 224, .from = 16, .used = 24, .addend = true}})
        compare(f, rows, in_out);
}

TEST_CASE("a product is computed with the one that it is made of, if nothing is in the way") {
  if (no_device()) return;
  CHECK(follows_on_device(Unlike::nothing));
  for (const Unlike unlike :
       {Unlike::other_memory, Unlike::beside, Unlike::other_stride, Unlike::other_order, Unlike::first_adds,
        Unlike::first_shifts, Unlike::two_are_put_off, Unlike::has_started, Unlike::adds_middle, Unlike::writes_x,
        Unlike::odd_width, Unlike::many_between, Unlike::narrow}) {
    INFO("unlike " << static_cast<int>(unlike));
    CHECK_FALSE(follows_on_device(unlike));
  }
}

TEST_CASE("layers of maps with few columns between on the device agree with the CPU") {
  compare_shapes<LowRankNet, 128, Norm::layer_norm>();
}
