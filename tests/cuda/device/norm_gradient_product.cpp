// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "norm_gradient_product.hpp"
#include "bfloat16_rows.hpp"
#include "comparison.hpp"

#include <cmath>

using namespace mad;
using namespace mad::testing;

namespace {

constexpr std::size_t width = 128;

void compare(const std::vector<int>& inner, Index rows, bool centred, bool adds, Index behind = 0,
             bool in_place = false) {
  INFO(inner.size() << " products, the first of " << inner[0] << ", " << rows << " rows" << (centred ? ", centred" : "")
                    << (adds ? ", with an addend" : "") << (in_place ? ", in place" : ""));
  std::mt19937 generator(static_cast<unsigned>(rows));
  std::normal_distribution<float> normal(0.5f);
  const Index stride = static_cast<Index>(width) + behind;
  NormGradientCase c;
  c.centred = centred;
  c.epsilon = 1e-5f;
  c.x_stride = c.addend_stride = c.dx_stride = stride;
  c.in_place = in_place;
  for (const int k : inner)
    c.terms.push_back({.inner = k,
                       .stride = k + behind,
                       .dy = random_rows(rows, k, k + behind, generator),
                       .weight = random_rows(k, width, width, generator)});
  c.x = random_rows(rows, width, stride, generator);
  if (adds) c.addend = random_rows(rows, width, stride, generator);
  c.weight.resize(width);
  for (float& w : c.weight) w = normal(generator);
  // What lies behind the last row must stay as it was.
  if (in_place)
    c.addend.resize(static_cast<std::size_t>((rows + 70) * stride), not_a_number);
  else
    c.dx.assign(static_cast<std::size_t>((rows + 70) * stride), not_a_number);
  NormGradientCase found = c;
  if (!norm_gradient_on_device(found, rows)) {
    WARN("skipped: this device multiplies without warpgroups");
    return;
  }
  std::vector<double> expected, sums(2 * width, 0.0);
  std::vector<float> dx;
  for (Index r = 0; r < rows; ++r) {
    const auto at = [&](const std::vector<std::uint16_t>& of, std::size_t i) {
      return double{value_of(of[static_cast<std::size_t>(r * stride) + i])};
    };
    std::vector<double> d(width, 0.0), standardised(width);
    for (const NormGradientCase::Term& t : c.terms)
      for (std::size_t k = 0; k < static_cast<std::size_t>(t.inner); ++k) {
        const double dy = value_of(t.dy[static_cast<std::size_t>(r * t.stride) + k]);
        for (std::size_t i = 0; i < width; ++i) d[i] += dy * value_of(t.weight[k * width + i]);
      }
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < width && centred; ++i) mean += at(c.x, i) / width;
    for (std::size_t i = 0; i < width; ++i) square += (at(c.x, i) - mean) * (at(c.x, i) - mean) / width;
    const double inverse = 1 / std::sqrt(square + double{c.epsilon});
    double of_g = 0, of_product = 0;
    for (std::size_t i = 0; i < width; ++i) {
      standardised[i] = (at(c.x, i) - mean) * inverse;
      sums[i] += d[i] * standardised[i];
      sums[width + i] += d[i];
      of_g += centred ? d[i] * c.weight[i] / width : 0.0;
      of_product += d[i] * c.weight[i] * standardised[i] / width;
    }
    for (std::size_t i = 0; i < width; ++i) {
      expected.push_back((d[i] * c.weight[i] - of_g - standardised[i] * of_product) * inverse +
                         (adds ? at(c.addend, i) : 0.0));
      dx.push_back(static_cast<float>(at(found.dx, i)));
    }
  }
  CHECK(distance(std::span<const float>(dx), std::span<const double>(expected)) < half_step);
  CHECK(distance(std::span<const double>(found.sums), std::span<const double>(sums)) < 1e-5);
  for (std::size_t i = 0; i < found.dx.size(); ++i)
    if (static_cast<Index>(i) >= rows * stride || static_cast<Index>(i) % stride >= static_cast<Index>(width))
      if (found.dx[i] != not_a_number) FAIL("number " << i << " was written");
  NormGradientCase again = c;
  norm_gradient_on_device(again, rows);
  CHECK(again.dx == found.dx);
  CHECK(again.sums == found.sums);
}

}  // namespace

TEST_CASE("the gradient of a norm in its products' kernel agrees with sums in double precision") {
  if (no_device()) return;
  for (const Index rows : {1, 15, 63, 64, 65, 129, 1000, 17000})
    for (const bool centred : {false, true})
      for (const bool adds : {false, true}) {
        if (rows > 1000 && centred != adds) continue;
        compare({384}, rows, centred, adds);
        if (rows <= 1000) compare({8, 136, 64}, rows, centred, adds, 8);
      }
  for (const int inner : {8, 64, 72, 128, 512}) compare({inner}, 100, true, true);
  compare({128, 128, 128, 128}, 333, false, false);
  compare({200}, 333, true, true, 0, true);
  compare({512}, 16500, true, true, 0, true);
}
