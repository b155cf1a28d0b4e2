// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "short_conv_numbers.hpp"

#include <mad/cpu/kernels/gated_short_conv.hpp>

#include <utility>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::View;
using mad::cpu::ShortConvSizes;
using namespace mad::testing;

namespace {

struct Convolution {
  Numbers gate, product, d_x, d_weight, d_bias;
};

/// The defining sums; rows of x lie `input_width + gap` apart, those of the outputs a third of the channels
/// and a gap.
Convolution convolve(const Shape& shape, const ShortConvSizes& sizes, const Numbers& x, const Numbers& weight,
                     const Numbers& bias, const Numbers& d_gate, const Numbers& d_product) {
  const Index inner = sizes.channels / 3, in = sizes.input_width + gap, out = inner + gap;
  Convolution e{Numbers(d_gate.size(), 7), Numbers(d_gate.size(), 7), Numbers(x.size()), Numbers(weight.size()),
                Numbers(bias.size())};
  for (Index row = 0; row < shape.tokens(); ++row) {
    for (Index c = sizes.input_width; c < in; ++c) e.d_x[z(row * in + c)] = 7;
    Numbers u = bias, d_u(bias.size());
    const auto for_inputs = [&](const auto& visit) {
      for (Index c = 0; c < sizes.channels; ++c)
        for_taps(shape, sizes, row, c, [&](std::size_t tap, std::size_t source) { visit(z(c), tap, source); });
    };
    for_inputs([&](std::size_t c, std::size_t tap, std::size_t source) { u[c] += weight[tap] * x[source]; });
    for (Index i = 0; i < inner; ++i) {
      const std::size_t at = z(row * out + i);
      const double first = u[z(inner + i)], second = u[z(2 * inner + i)];
      e.gate[at] = u[z(i)];
      e.product[at] = first * second;
      d_u[z(i)] = d_gate[at];
      d_u[z(inner + i)] = d_product[at] * second;
      d_u[z(2 * inner + i)] = d_product[at] * first;
    }
    for_inputs([&](std::size_t c, std::size_t tap, std::size_t source) {
      e.d_x[source] += weight[tap] * d_u[c];
      e.d_weight[tap] += x[source] * d_u[c];
    });
    for (std::size_t c = 0; c < d_u.size(); ++c) e.d_bias[c] += d_u[c];
  }
  return e;
}

template <int Kernel, class T>
void check(const Shape& shape, const ShortConvSizes& sizes, double tolerance) {
  CAPTURE(Kernel, shape.batch, shape.length, sizes.channels, sizes.input_width, sizeof(T));
  ShortConvNumbers draw(shape, sizes);
  const Index in = sizes.input_width + gap, out = sizes.channels / 3 + gap;
  const Numbers x = draw(shape.tokens() * in), weight = draw(sizes.channels * sizes.kernel);
  const Numbers bias = draw(sizes.channels), d_product = draw(shape.tokens() * out);
  const Numbers first = draw(shape.tokens() * out), second = draw(shape.tokens() * out);
  Numbers d_gate = first;
  for (std::size_t i = 0; i < d_gate.size(); ++i) d_gate[i] *= second[i];
  const Convolution expected = convolve(shape, sizes, x, weight, bias, d_gate, d_product);

  const std::vector<T> x_t = rounded<T>(x), weight_t = rounded<T>(weight), bias_t = rounded<T>(bias);
  const std::vector<T> d_gate_t = rounded<T>(d_gate), d_product_t = rounded<T>(d_product);
  const std::vector<T> first_t = rounded<T>(first), second_t = rounded<T>(second);
  std::vector<T> gate(d_gate.size(), T(7)), product(d_gate.size(), T(7));
  mad::cpu::Workspace workspace;
  mad::cpu::gated_short_conv_forward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), bias_t.data(),
                                                {gate.data(), out}, {product.data(), out}, workspace);
  CHECK(distance(gate, expected.gate) < tolerance);
  CHECK(distance(product, expected.product) < tolerance);

  const auto check_backward = [&](const auto& rows) {
    std::vector<T> d_x(x.size(), T(7)), d_weight(weight.size(), T(1)), d_bias(bias.size(), T(1));
    mad::cpu::gated_short_conv_backward<Kernel, T>(shape, sizes, {x_t.data(), in}, weight_t.data(), bias_t.data(), rows,
                                                   {d_product_t.data(), out}, {d_x.data(), in}, d_weight.data(),
                                                   d_bias.data(), workspace);
    CHECK(distance(d_x, expected.d_x) < tolerance);
    CHECK(distance(d_weight, expected.d_weight, 1) < tolerance);
    CHECK(distance(d_bias, expected.d_bias, 1) < tolerance);
  };
  check_backward(View<const T>{d_gate_t.data(), out});
  check_backward(mad::cpu::detail::ProductOfRows<T>{{first_t.data(), out}, {second_t.data(), out}});
}

template <int Kernel>
void check_shapes() {
  for (const Shape& shape : {Shape{1, 1}, {3, 1}, {2, 2}, {1, 5}, {3, 12}, {2, 31}}) {
    // The factors of a product read the same column, or others; a column is read by one to twelve channels.
    for (const auto& [channels, input_width] : {std::pair<Index, Index>{3, 1},
                                                {3, 3},
                                                {48, 16},
                                                {48, 48},
                                                {60, 15},
                                                {192, 48},
                                                {63, 63},
                                                {90, 45},
                                                {24, 2}}) {
      check<Kernel, double>(shape, {channels, input_width, Kernel}, 1e-13);
      check<Kernel, float>(shape, {channels, input_width, Kernel}, 1e-5);
    }
  }
}

}  // namespace

TEST_CASE("a gated short convolution is its defining sum", "[cpu][short_conv]") {
  check_shapes<1>();
  check_shapes<2>();
  check_shapes<3>();
  check_shapes<4>();
}

TEST_CASE("a gated short convolution with many taps is its defining sum", "[cpu][short_conv]") { check_shapes<9>(); }

TEST_CASE("a gated short convolution whose sizes do not fit is refused", "[cpu][short_conv]") {
  std::vector<double> x(96);
  mad::cpu::Workspace workspace;
  const auto run = [&](ShortConvSizes sizes) {
    mad::cpu::gated_short_conv_forward<4, double>({1, 1}, sizes, {x.data(), 8}, x.data(), x.data(), {x.data() + 64, 8},
                                                  {x.data() + 72, 8}, workspace);
  };
  CHECK_THROWS_AS(run({9, 9, 3}), mad::UsageError);
  CHECK_THROWS_AS(run({9, 2, 4}), mad::UsageError);
  CHECK_THROWS_AS(run({8, 8, 4}), mad::UsageError);
}
