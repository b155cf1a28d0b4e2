// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/matrix_product.hpp>

#include <catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mad::cpu {
namespace {

template <class T>
std::vector<T> random_numbers(Index count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> numbers(static_cast<std::size_t>(count));
  for (T& x : numbers) x = static_cast<T>(uniform(generator));
  return numbers;
}

/// A (rows, columns) matrix inside a larger block of memory, in either order.
template <class T>
struct Matrix {
  Index rows, columns, stride;
  bool by_columns;
  std::vector<T> memory;

  Matrix(Index r, Index c, bool column_major, unsigned seed)
      : rows(r),
        columns(c),
        stride((column_major ? r : c) + 3),
        by_columns(column_major),
        memory(random_numbers<T>((column_major ? c : r) * stride, seed)) {}
  Strided<T> view() const { return {memory.data(), by_columns ? 1 : stride, by_columns ? stride : 1}; }
  double at(Index i, Index j) const {
    return static_cast<double>(memory[static_cast<std::size_t>(by_columns ? j * stride + i : i * stride + j)]);
  }
};

template <class T>
void check_product(Index rows, Index columns, Index depth, bool a_by_columns, bool b_by_columns, Start start) {
  CAPTURE(rows, columns, depth, a_by_columns, b_by_columns, static_cast<int>(start), sizeof(T));
  const Matrix<T> a(rows, depth, a_by_columns, 1);
  const Matrix<T> b(depth, columns, b_by_columns, 2);
  const std::vector<T> bias = random_numbers<T>(columns, 3);
  const Index stride = columns + 5;
  // Nothing but C may be written; and where C starts from zero or from the bias, what it held is not read.
  std::vector<T> c = random_numbers<T>(rows * stride, 4);
  if (start != Start::present)
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < columns; ++j)
        c[static_cast<std::size_t>(r * stride + j)] = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> before = c;
  Workspace workspace;
  matrix_product<T>(rows, columns, depth, a.view(), b.view(), {c.data(), stride}, start, bias.data(), workspace);
  double error = 0;
  bool outside = false;
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < stride; ++j) {
      const auto at = static_cast<std::size_t>(r * stride + j);
      if (j >= columns) {
        outside = outside || c[at] != before[at];
        continue;
      }
      double expected = start == Start::present ? static_cast<double>(before[at])
                        : start == Start::bias  ? static_cast<double>(bias[static_cast<std::size_t>(j)])
                                                : 0;
      for (Index k = 0; k < depth; ++k) expected += a.at(r, k) * b.at(k, j);
      const double difference = std::abs(static_cast<double>(c[at]) - expected);
      error = difference <= error ? error : difference;  // a NaN stays
    }
  CHECK_FALSE(outside);
  CHECK(error <= 4 * static_cast<double>(depth + 1) * static_cast<double>(std::numeric_limits<T>::epsilon()));
}

}  // namespace

TEMPLATE_TEST_CASE("a product agrees with the definition in every order and size", "", double, float) {
  for (const Index rows : {1, 2, 5, 6, 13, 24})
    for (const Index columns : {1, 3, 8, 16, 17, 31, 64, 65, 200})
      for (const Index depth : {1, 7, 16, 33})
        for (const int orders : {0, 1, 2, 3})
          check_product<TestType>(rows, columns, depth, (orders & 1) != 0, (orders & 2) != 0, Start::zero);
  for (const Start start : {Start::zero, Start::bias, Start::present})
    for (const Index depth : {0, 1, 255, 256, 257, 600}) check_product<TestType>(7, 37, depth, true, false, start);
}

TEST_CASE("the bits of a row do not depend on the rows around it") {
  const Index rows = 29, columns = 77, depth = 300;
  const Matrix<float> a(rows, depth, false, 1);
  const Matrix<float> b(depth, columns, true, 2);
  Workspace workspace;
  std::vector<float> all(rows * columns), one(columns);
  matrix_product<float>(rows, columns, depth, a.view(), b.view(), {all.data(), columns}, Start::zero, nullptr,
                        workspace);
  for (Index r = 0; r < rows; ++r) {
    const Strided<float> row{a.view().data + r * a.stride, a.stride, 1};
    matrix_product<float>(1, columns, depth, row, b.view(), {one.data(), columns}, Start::zero, nullptr, workspace);
    CHECK(std::equal(one.begin(), one.end(), all.begin() + r * columns));
  }
}

}  // namespace mad::cpu
