// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "weight_gradients.hpp"
#include "bfloat16_rows.hpp"
#include "comparison.hpp"

using namespace mad;
using namespace mad::testing;

namespace {

struct Map {
  int out;
  int in;
  bool bias = false;
  Index behind_dy = 0;  ///< columns of other maps between the rows
  Index behind_x = 0;
  bool shares_bias = false;  ///< with the map before it
};

std::vector<float> random_values(int count, std::mt19937& generator) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = normal(generator);
  return values;
}

/// What is to be found in d_weight and d_bias, one behind the other.
std::vector<double> expected(const WeightGradientCase& c, Index rows) {
  std::vector<double> sum(c.d_weight.begin(), c.d_weight.end());
  sum.insert(sum.end(), c.d_bias.begin(), c.d_bias.end());
  std::vector<double> x(static_cast<std::size_t>(c.in));
  for (Index r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = value_of(c.x[static_cast<std::size_t>(r * c.x_stride) + i]);
    for (std::size_t o = 0; o < static_cast<std::size_t>(c.out); ++o) {
      const double dy = value_of(c.dy[static_cast<std::size_t>(r * c.dy_stride) + o]);
      double* row = sum.data() + o * x.size();
      for (std::size_t i = 0; i < x.size(); ++i) row[i] += dy * x[i];
      if (!c.d_bias.empty()) sum[c.d_weight.size() + o] += dy;
    }
  }
  return sum;
}

using AddGradients = void (*)(std::vector<WeightGradientCase>&, Index);

void compare(const std::vector<Map>& maps, Index rows, AddGradients add = add_weight_gradients_on_device) {
  INFO(maps.size() << " maps, " << rows << " rows");
  std::mt19937 generator(static_cast<unsigned>(rows));
  std::vector<WeightGradientCase> cases;
  for (const Map& m : maps) {
    WeightGradientCase c{.out = m.out,
                         .in = m.in,
                         .dy_stride = m.out + m.behind_dy,
                         .x_stride = m.in + m.behind_x,
                         .dy = {},
                         .x = {},
                         .d_weight = random_values(m.out * m.in, generator),
                         .d_bias = random_values(m.bias ? m.out : 0, generator),
                         .shares_bias = m.shares_bias};
    c.dy = random_rows(rows, m.out, c.dy_stride, generator);
    c.x = random_rows(rows, m.in, c.x_stride, generator);
    cases.push_back(std::move(c));
  }
  std::vector<WeightGradientCase> found = cases;
  add(found, rows);
  std::vector<std::vector<double>> sums;
  for (const WeightGradientCase& c : cases) sums.push_back(expected(c, rows));
  for (std::size_t i = cases.size(); i-- > 1;) {
    if (!cases[i].shares_bias) continue;
    for (std::size_t o = 0; o < cases[i].d_bias.size(); ++o)
      sums[i - 1][cases[i - 1].d_weight.size() + o] += sums[i][cases[i].d_weight.size() + o] - cases[i].d_bias[o];
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    INFO("map " << i << ", " << cases[i].out << " x " << cases[i].in);
    const std::vector<double>& all = sums[i];
    const std::span<const double> weight = std::span(all).first(cases[i].d_weight.size());
    if (maps[i].in > 0) CHECK(distance(std::span<const float>(found[i].d_weight), weight) < 1e-5);
    if (maps[i].bias && !maps[i].shares_bias)
      CHECK(distance(std::span<const float>(found[i].d_bias), std::span(all).subspan(weight.size())) < 1e-5);
  }
  std::vector<WeightGradientCase> again = cases;
  add(again, rows);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CHECK(again[i].d_weight == found[i].d_weight);
    CHECK(again[i].d_bias == found[i].d_bias);
  }
}

}  // namespace

TEST_CASE("weights' gradients at few and many rows agree with sums in double precision") {
  if (no_device()) return;
  for (const Index rows : {1, 31, 32, 100, 513, 4099}) {
    compare({{.out = 384, .in = 128, .bias = true}, {.out = 128, .in = 128, .bias = true}}, rows);
    compare({{.out = 352, .in = 128, .behind_dy = 352}, {.out = 352, .in = 128, .bias = true}, {.out = 128, .in = 352}},
            rows);
  }
  compare({{.out = 264, .in = 24, .bias = true}, {.out = 16, .in = 136}}, 70001);
}

TEST_CASE("gradients of narrow and wide weights agree with sums in double precision") {
  if (no_device()) return;
  for (const Index rows : {1, 100, 513, 2085})
    compare({{.out = 16, .in = 256, .bias = true, .behind_dy = 8, .behind_x = 40},
             {.out = 8, .in = 8, .bias = true},
             {.out = 512, .in = 128},
             {.out = 72, .in = 24, .behind_x = 8},
             {.out = 1536, .in = 128, .bias = true}},
            rows);
}

TEST_CASE("as many weights' gradients as possible agree with sums in double precision") {
  if (no_device()) return;
  std::vector<Map> maps;
  for (int i = 0; i < 16; ++i)
    maps.push_back({.out = 8 + i * 24, .in = 200 - i * 8, .bias = i % 3 == 0, .behind_dy = i % 4 * 8});
  compare(maps, 1000);
  compare({{.out = 8, .in = 8}}, 20000);
}

TEST_CASE("more tiles of weights than multiprocessors agree with sums in double precision") {
  if (no_device()) return;
  compare({{.out = 1536, .in = 1032, .bias = true}, {.out = 1000, .in = 520}}, 300);
}

TEST_CASE("gradients of small weights in float agree with sums in double precision") {
  if (no_device()) return;
  for (const Index rows : {1, 7, 128, 1021}) {
    compare({{.out = 512, .in = 4},
             {.out = 4, .in = 4, .bias = true, .behind_dy = 3},
             {.out = 4, .in = 0, .bias = true},
             {.out = 7, .in = 3, .bias = true, .behind_x = 2}},
            rows, add_exact_weight_gradients_on_device);
    const Map of_bias{.out = 6, .in = 0, .bias = true};
    Map shared = of_bias;
    shared.shares_bias = true;
    compare({of_bias, shared, shared, {.out = 6, .in = 2, .bias = true}, of_bias, shared, shared, shared, shared}, rows,
            add_exact_weight_gradients_on_device);
    compare(std::vector<Map>(16, {.out = 33, .in = 5, .bias = true}), rows, add_exact_weight_gradients_on_device);
  }
}

TEST_CASE("weights whose rows do not begin at multiples of 16 bytes are not taken") {
  CHECK(takes_weight_gradient(8, 16, 8, 24, 0));
  CHECK(takes_weight_gradient(8, 16, 8, 24, 16));
  CHECK_FALSE(takes_weight_gradient(8, 16, 8, 24, 8));
  CHECK_FALSE(takes_weight_gradient(8, 16, 12, 24, 0));
  CHECK_FALSE(takes_weight_gradient(8, 16, 8, 20, 0));
  CHECK_FALSE(takes_weight_gradient(12, 16, 16, 16, 0));
  CHECK_FALSE(takes_weight_gradient(8, 12, 16, 16, 0));
}
