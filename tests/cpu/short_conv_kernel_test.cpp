// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "short_conv_numbers.hpp"

#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/kernels/short_conv_silu.hpp>

#include <cmath>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::cpu::ShortConvSizes;
using namespace mad::testing;

namespace {

struct Convolution {
  Numbers y, d_x, d_weight, d_bias;
};

/// The defining sums, and if wanted silu of them; rows of x lie `input_width + gap` apart, those of y `channels + gap`.
Convolution convolve(const Shape& shape, const ShortConvSizes& sizes, const Numbers& x, const Numbers& weight,
                     const Numbers& bias, const Numbers& d_y, bool silu = false) {
  const Index in = sizes.input_width + gap, out = sizes.channels + gap;
  Convolution e{Numbers(d_y.size(), 7), Numbers(x.size()), Numbers(weight.size()), Numbers(bias.size())};
  for (Index row = 0; row < shape.tokens(); ++row) {
    for (Index c = sizes.input_width; c < in; ++c) e.d_x[z(row * in + c)] = 7;
    for (Index c = 0; c < sizes.channels; ++c) {
      const auto for_inputs = [&](const auto& visit) { for_taps(shape, sizes, row, c, visit); };
      double sum = bias[z(c)];
      for_inputs([&](std::size_t tap, std::size_t source) { sum += weight[tap] * x[source]; });
      double gradient = d_y[z(row * out + c)];
      e.y[z(row * out + c)] = sum;
      if (silu) {
        const double s = 1 / (1 + std::exp(-sum));
        e.y[z(row * out + c)] = sum * s;
        gradient *= s + sum * s * (1 - s);
      }
      e.d_bias[z(c)] += gradient;
      for_inputs([&](std::size_t tap, std::size_t source) {
        e.d_x[source] += weight[tap] * gradient;
        e.d_weight[tap] += x[source] * gradient;
      });
    }
  }
  return e;
}

template <int Kernel, class T>
void check(const Shape& shape, const ShortConvSizes& sizes, double tolerance) {
  CAPTURE(Kernel, shape.batch, shape.length, sizes.channels, sizes.input_width, sizes.kernel, sizeof(T));
  ShortConvNumbers draw(shape, sizes);
  const Index in = sizes.input_width + gap, out = sizes.channels + gap;
  const Numbers x = draw(shape.tokens() * in), weight = draw(sizes.channels * sizes.kernel);
  const Numbers bias = draw(sizes.channels), d_y = draw(shape.tokens() * out);
  const Convolution expected = convolve(shape, sizes, x, weight, bias, d_y);

  const std::vector<T> x_t = rounded<T>(x), weight_t = rounded<T>(weight), bias_t = rounded<T>(bias);
  const std::vector<T> d_y_t = rounded<T>(d_y);
  std::vector<T> y(d_y.size(), T(7)), d_x(x.size(), T(7)), d_weight(weight.size(), T(1)), d_bias(bias.size(), T(1));
  mad::cpu::Workspace workspace;
  mad::cpu::short_conv_forward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), bias_t.data(),
                                          {y.data(), out}, workspace);
  mad::cpu::short_conv_backward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), {d_y_t.data(), out},
                                           {d_x.data(), in}, d_weight.data(), d_bias.data(), workspace);
  CHECK(distance(y, expected.y) < tolerance);
  CHECK(distance(d_x, expected.d_x) < tolerance);
  CHECK(distance(d_weight, expected.d_weight, 1) < tolerance);
  CHECK(distance(d_bias, expected.d_bias, 1) < tolerance);

  // No bias: the same without it.
  mad::cpu::short_conv_forward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), nullptr, {y.data(), out},
                                          workspace);
  const Numbers unbiased = convolve(shape, sizes, x, weight, Numbers(bias.size()), d_y).y;
  CHECK(distance(y, unbiased) < tolerance);
  const std::vector<T> d_x_before = d_x;
  mad::cpu::short_conv_backward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), {d_y_t.data(), out},
                                           {d_x.data(), in}, d_weight.data(), nullptr, workspace);
  CHECK(d_x == d_x_before);  // overwritten, not added to
}

/// The same with silu, with a bias and without.
template <int Kernel, class T>
void check_silu(const Shape& shape, const ShortConvSizes& sizes, double tolerance) {
  CAPTURE(Kernel, shape.batch, shape.length, sizes.channels, sizes.input_width, sizes.kernel, sizeof(T));
  ShortConvNumbers draw(shape, sizes);
  const Index in = sizes.input_width + gap, out = sizes.channels + gap;
  const Numbers x = draw(shape.tokens() * in), weight = draw(sizes.channels * sizes.kernel);
  const Numbers d_y = draw(shape.tokens() * out), with = draw(sizes.channels), without(with.size());
  const std::vector<T> x_t = rounded<T>(x), weight_t = rounded<T>(weight), d_y_t = rounded<T>(d_y);
  const std::vector<T> bias_t = rounded<T>(with);
  for (const bool has_bias : {true, false}) {
    const Convolution expected = convolve(shape, sizes, x, weight, has_bias ? with : without, d_y, true);
    const T* bias = has_bias ? bias_t.data() : nullptr;
    std::vector<T> y(d_y.size(), T(7)), d_x(x.size(), T(7)), d_weight(weight.size(), T(1)), d_bias(with.size(), T(1));
    mad::cpu::Workspace workspace;
    mad::cpu::short_conv_silu_forward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), bias, {y.data(), out},
                                                 workspace);
    mad::cpu::short_conv_silu_backward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), bias,
                                                  {d_y_t.data(), out}, {d_x.data(), in}, d_weight.data(),
                                                  has_bias ? d_bias.data() : nullptr, workspace);
    CHECK(distance(y, expected.y) < tolerance);
    CHECK(distance(d_x, expected.d_x) < tolerance);
    CHECK(distance(d_weight, expected.d_weight, 1) < tolerance);
    if (has_bias) CHECK(distance(d_bias, expected.d_bias, 1) < tolerance);
  }
}

template <int Kernel>
void check_shapes(Index kernel) {
  for (const Shape& shape : {Shape{1, 1}, {3, 1}, {2, 2}, {1, 5}, {3, 12}, {2, 31}}) {
    for (const auto& [channels, input_width] :
         {std::pair<Index, Index>{1, 1}, {16, 16}, {21, 21}, {64, 64}, {83, 83}, {12, 4}, {96, 48}, {10, 1}}) {
      check<Kernel, double>(shape, {channels, input_width, kernel}, 1e-14);
      check<Kernel, float>(shape, {channels, input_width, kernel}, 3e-6);
      check_silu<Kernel, double>(shape, {channels, input_width, kernel}, 1e-14);
      check_silu<Kernel, float>(shape, {channels, input_width, kernel}, 3e-6);
    }
  }
}

}  // namespace

TEST_CASE("a short convolution is its defining sum, and silu of it", "[cpu][short_conv]") {
  check_shapes<1>(1);
  check_shapes<2>(2);
  check_shapes<3>(3);
  check_shapes<4>(4);
  check_shapes<7>(7);
  check_shapes<8>(8);
}

TEST_CASE("a short convolution with many or run-time taps is its defining sum", "[cpu][short_conv]") {
  check_shapes<9>(9);
  for (const Index kernel : {1, 3, 4, 15}) check_shapes<0>(kernel);
}

TEST_CASE("a short convolution whose sizes do not fit is refused", "[cpu][short_conv]") {
  std::vector<double> x(64);
  mad::cpu::Workspace workspace;
  const auto run = [&](ShortConvSizes sizes) {
    mad::cpu::short_conv_forward<4, double>({1, 1}, sizes, {x.data(), 8}, x.data(), nullptr, {x.data() + 32, 8},
                                            workspace);
  };
  CHECK_THROWS_AS(run({8, 8, 3}), mad::UsageError);
  CHECK_THROWS_AS(run({8, 3, 4}), mad::UsageError);
  CHECK_THROWS_AS(run({0, 1, 4}), mad::UsageError);
}
