// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <mad/ops/token_shift.hpp>

#include <catch.hpp>

namespace mad::testing {

namespace {

/// Of a slice, so that rows are not contiguous; and of a shifted value, so that the boundary is met twice.
struct Shift {
  static constexpr std::string_view name = "shift";
  static constexpr Value forward(Value x) { return token_shift(slice(x, 1, x.width() - 1)); }
};
struct ShiftTwice {
  static constexpr std::string_view name = "shift twice";
  static constexpr Value forward(Value x) { return token_shift(token_shift(x)); }
};

template <class L, int Width, class T>
void check_shift(const Shape& shape, Index by, Index first) {
  INFO(L::name << ", batch " << shape.batch << ", length " << shape.length);
  const Index wide = Width - first;
  const std::vector<T> x = ramp<T>(shape.tokens() * Width, 0.25, -3);
  const std::vector<T> dy = ramp<T>(shape.tokens() * wide, 0.5, -7);
  const Passes<T> p = run_layer<L, Width, T>(shape, x, dy);
  std::vector<T> y(dy.size(), T(0));
  std::vector<T> dx(x.size(), T(0));
  for (Index b = 0; b < shape.batch; ++b)
    for (Index t = by; t < shape.length; ++t)
      for (Index c = 0; c < wide; ++c) {
        const auto here = static_cast<std::size_t>((b * shape.length + t) * wide + c);
        const auto before = static_cast<std::size_t>((b * shape.length + t - by) * Width + first + c);
        y[here] = x[before];
        dx[before] = dy[here];
      }
  CHECK(p.y == y);
  CHECK(p.dx == dx);
}

}  // namespace

TEST_CASE("A shifted token is the one before it in its sequence") {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{3, 1, 4}, Shape{2, 2, 2}, Shape{3, 5, 9}}) {
    check_shift<Shift, 6, double>(shape, 1, 1);
    check_shift<Shift, 18, float>(shape, 1, 1);
    check_shift<ShiftTwice, 6, double>(shape, 2, 0);
  }
}

TEST_CASE("Stepping through a sequence shifts as the whole does") {
  const Shape shape{2, 5, 5};
  constexpr Index width = 3, stride = 5;
  const std::vector<double> x = ramp<double>(shape.tokens() * stride, 0.25, -3);
  std::vector<double> whole(x.size(), 9), stepped(x.size(), 9), state(6, 0.0);
  cpu::token_shift_forward<double>(shape, width, {x.data(), stride}, {whole.data(), stride});
  for (Index t = 0; t < shape.length; ++t) {
    // Rows of one position lie a sequence apart.
    const View<const double> from{x.data() + t * stride, shape.length * stride};
    const View<double> to{stepped.data() + t * stride, shape.length * stride};
    cpu::token_shift_step<double>(shape.batch, width, from, to, state.data());
  }
  CHECK(stepped == whole);
  CHECK(whole[0] == 0);
  CHECK(whole[stride] == x[0]);
}

}  // namespace mad::testing
