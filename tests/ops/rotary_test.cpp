// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <mad/ops/rotary.hpp>

#include <catch.hpp>
#include <cmath>

namespace mad::testing {

namespace {

template <int Heads, RotaryOptions O>
struct Rotate {
  static constexpr std::string_view name = "rotate";
  static constexpr Value forward(Value x) { return rotary(x, Heads, O); }
};

/// y = sum over pairs of the rotation matrix; the gradient is its transpose.
template <int Width, int Heads, RotaryOptions O>
void check_rotary(const Shape& shape) {
  constexpr int head = Width / Heads;
  constexpr int dims = O.dims == 0 ? head : O.dims;
  constexpr double frequency_base = O.base;  // not O.base at run time, which clang 16 reads as 0
  const std::vector<double> x = ramp<double>(shape.tokens() * Width, 0.25, -3);
  const std::vector<double> dy = ramp<double>(shape.tokens() * Width, 0.5, -7);
  const Passes<double> p = run_layer<Rotate<Heads, O>, Width, double>(shape, x, dy);
  std::vector<double> y = x;
  std::vector<double> dx = dy;
  for (Index r = 0; r < shape.tokens(); ++r)
    for (int h = 0; h < Heads; ++h)
      for (int j = 0; j < dims / 2; ++j) {
        const auto base = static_cast<std::size_t>(r * Width + h * head);
        const std::size_t a = base + static_cast<std::size_t>(O.interleaved ? 2 * j : j);
        const std::size_t b = base + static_cast<std::size_t>(O.interleaved ? 2 * j + 1 : j + dims / 2);
        const double angle = static_cast<double>(r % shape.length) * std::pow(frequency_base, -2.0 * j / dims);
        y[a] = std::cos(angle) * x[a] - std::sin(angle) * x[b];
        y[b] = std::sin(angle) * x[a] + std::cos(angle) * x[b];
        dx[a] = std::cos(angle) * dy[a] + std::sin(angle) * dy[b];
        dx[b] = -std::sin(angle) * dy[a] + std::cos(angle) * dy[b];
      }
  for (std::size_t k = 0; k < y.size(); ++k) {
    CHECK(std::abs(p.y[k] - y[k]) < 1e-13);
    CHECK(std::abs(p.dx[k] - dx[k]) < 1e-13);
  }
}

}  // namespace

TEST_CASE("Rotary positions turn pairs of channels, and gradients turn back") {
  check_rotary<16, 2, RotaryOptions{}>({2, 9, 9});
  check_rotary<15, 3, RotaryOptions{.dims = 4, .base = 100, .interleaved = true}>({2, 3, 5});
  check_rotary<12, 2, RotaryOptions{.dims = 2, .base = 500}>({1, 1, 1});
}

TEST_CASE("Stepping through a sequence turns as the whole does") {
  const Shape shape{3, 7, 7};
  const cpu::RotarySizes sizes{.heads = 2, .head_dim = 5, .rotary = 4, .rotary_base = 77, .interleaved = false};
  constexpr Index stride = 13;
  const std::vector<double> x = ramp<double>(shape.tokens() * stride, 0.25, -3);
  std::vector<double> whole(x.size(), 9), stepped(x.size(), 9);
  cpu::rotate<double>(shape, sizes, {x.data(), stride}, {whole.data(), stride}, cpu::Turn::forward);
  for (Index t = 0; t < shape.length; ++t)
    cpu::rotate_step<double>(shape.batch, t, sizes, {x.data() + t * stride, shape.length * stride},
                             {stepped.data() + t * stride, shape.length * stride}, cpu::Turn::forward);
  // Not to the bit: compilers contract products and sums differently where a loop runs once.
  for (std::size_t k = 0; k < whole.size(); ++k) CHECK(std::abs(stepped[k] - whole[k]) < 1e-13);
}

}  // namespace mad::testing
