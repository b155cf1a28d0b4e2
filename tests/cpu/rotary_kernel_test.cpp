// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/rotary.hpp>

#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::View;
using mad::cpu::RotarySizes;
using mad::cpu::rotate;
using mad::cpu::Turn;

namespace {

template <class T>
void check(const Shape& shape, const RotarySizes& sizes, Index gap) {
  CAPTURE(sizeof(T), shape.batch, shape.length, sizes.heads, sizes.head_dim, sizes.rotary, sizes.interleaved, gap);
  const Index stride = sizes.heads * sizes.head_dim + gap;
  std::mt19937 generator(4);
  std::normal_distribution<double> normal;
  std::vector<T> x(static_cast<std::size_t>(shape.tokens() * stride));
  for (T& value : x) value = static_cast<T>(normal(generator));
  std::vector<T> y(x.size(), T(-7)), back(x.size(), T(-7)), in_place = x;
  rotate<T>(shape, sizes, {x.data(), stride}, {y.data(), stride}, Turn::forward);
  rotate<T>(shape, sizes, {y.data(), stride}, {back.data(), stride}, Turn::backward);
  rotate<T>(shape, sizes, {in_place.data(), stride}, {in_place.data(), stride}, Turn::forward);

  const double bound = sizeof(T) == 4 ? 2e-6 : 1e-13;
  double worst = 0, worst_back = 0, worst_in_place = 0;
  auto worsen = [](double& so_far, double difference) {
    if (!(std::abs(difference) <= so_far)) so_far = std::isnan(difference) ? INFINITY : std::abs(difference);
  };
  for (Index r = 0; r < shape.tokens(); ++r) {
    for (Index c = 0; c < stride; ++c) {
      const auto at = static_cast<std::size_t>(r * stride + c);
      if (c >= stride - gap) {
        CHECK(y[at] == T(-7));
        continue;
      }
      const Index j = c % sizes.head_dim;
      double expected = static_cast<double>(x[at]);
      if (j < sizes.rotary) {
        const int half = sizes.rotary / 2;
        const Index pair = sizes.interleaved ? j / 2 : j % half;
        const bool second = sizes.interleaved ? j % 2 == 1 : j >= half;
        const Index step = sizes.interleaved ? 1 : half;
        const double other = static_cast<double>(second ? x[at - static_cast<std::size_t>(step)]
                                                        : x[at + static_cast<std::size_t>(step)]);
        const double angle = static_cast<double>(r % shape.length) /
                             std::pow(sizes.rotary_base, 2.0 * static_cast<double>(pair) / sizes.rotary);
        expected = expected * std::cos(angle) + (second ? 1 : -1) * other * std::sin(angle);
      }
      worsen(worst, static_cast<double>(y[at]) - expected);
      worsen(worst_back, static_cast<double>(back[at] - x[at]));
      worsen(worst_in_place, static_cast<double>(in_place[at] - y[at]));
    }
  }
  CHECK(worst < bound);
  CHECK(worst_back < bound);
  CHECK(worst_in_place < bound);
}

}  // namespace

TEST_CASE("rotation agrees with its definition, in place too, and is undone by turning back") {
  const Shape shape{.batch = 2, .length = 37, .max_length = 37};
  for (const bool interleaved : {false, true}) {
    for (const int rotary : {0, 2, 6, 8, 16, 30, 32, 64, 78}) {
      for (const int extra : {0, 3}) {
        const RotarySizes sizes{.heads = 3,
                                .head_dim = std::max(1, rotary + extra),
                                .rotary = rotary,
                                .rotary_base = 500.0,
                                .interleaved = interleaved};
        check<float>(shape, sizes, 2);
        check<double>(shape, sizes, 0);
      }
    }
  }
  check<double>({.batch = 1, .length = 1, .max_length = 1}, {.heads = 1, .head_dim = 8, .rotary = 8}, 0);
}

TEST_CASE("scores depend on the distance of two positions only") {
  const Shape shape{.batch = 1, .length = 12, .max_length = 12};
  const RotarySizes sizes{.heads = 1, .head_dim = 8, .rotary = 8, .rotary_base = 100.0};
  std::vector<double> q(12 * 8), k(12 * 8);
  for (std::size_t i = 0; i < q.size(); ++i) {
    q[i] = std::sin(1.0 + static_cast<double>(i % 8));
    k[i] = std::cos(2.0 + static_cast<double>(i % 8));
  }
  for (std::vector<double>* x : {&q, &k}) {
    rotate<double>(shape, sizes, {x->data(), 8}, {x->data(), 8}, Turn::forward);
  }
  auto score = [&](std::size_t t, std::size_t s) {
    double sum = 0;
    for (std::size_t j = 0; j < 8; ++j) sum += q[t * 8 + j] * k[s * 8 + j];
    return sum;
  };
  for (std::size_t t = 3; t < 12; ++t) CHECK(std::abs(score(t, t - 3) - score(3, 0)) < 1e-13);
  CHECK(std::abs(score(3, 1) - score(3, 0)) > 1e-3);
}

TEST_CASE("a table grows without changing what it held, and is the thread's own") {
  const mad::cpu::RotaryTable<double>* table = mad::cpu::rotary_table<double>(6, 37.0, false, 5);
  const std::vector<double> x{1, 2, 3, 4, 5, 6};
  std::vector<double> before(6), after(6);
  table->turn(4, 1, {x.data(), 6}, {before.data(), 6}, Turn::forward);
  CHECK(mad::cpu::rotary_table<double>(6, 37.0, false, 5000) == table);
  CHECK(table->length() == 5000);
  table->turn(4, 1, {x.data(), 6}, {after.data(), 6}, Turn::forward);
  CHECK(before == after);
  CHECK(mad::cpu::rotary_table<double>(6, 38.0, false, 5) != table);
  CHECK(mad::cpu::rotary_table<double>(6, 37.0, true, 5) != table);
  CHECK(mad::cpu::rotary_table<double>(0, 37.0, true, 5) == nullptr);
  const mad::cpu::RotaryTable<double>* other = nullptr;
  Index length = 0;
  std::thread([&] {
    other = mad::cpu::rotary_table<double>(6, 37.0, false, 2);
    length = other->length();
  }).join();
  CHECK(other != table);
  CHECK(length == 2);
}
