// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "run_layer.hpp"

#include <catch.hpp>

namespace mad::testing {

namespace {

/// Widths below, at and beyond a register, with and without a remainder.
struct Mixed {
  static constexpr std::string_view name = "mixed";
  static constexpr Value forward(Value x) {
    const Value row = sum_to(x, Domain::tokens, 1);
    return (x * 0.5 + row) * (row - x) - x * x;
  }
};

template <int Width, class T>
void check_mixed(double tolerance) {
  INFO("width " << Width << (sizeof(T) == 4 ? ", float" : ", double"));
  const Shape shape{2, 3, 3};
  const std::vector<T> x = ramp<T>(6 * Width, 0.05, -0.7);
  const std::vector<T> dy = ramp<T>(6 * Width, -0.04, 0.6);
  const Passes<T> p = run_layer<Mixed, Width, T>(shape, x, dy);
  for (std::size_t r = 0; r < 6; ++r) {
    double row = 0;
    double d_row = 0;
    const auto at = [&](const std::vector<T>& v, std::size_t c) { return static_cast<double>(v[r * Width + c]); };
    for (std::size_t c = 0; c < Width; ++c) row += at(x, c);
    for (std::size_t c = 0; c < Width; ++c) d_row += at(dy, c) * (row - at(x, c) + at(x, c) * 0.5 + row);
    for (std::size_t c = 0; c < Width; ++c) {
      const double v = at(x, c);
      CHECK(std::abs(at(p.y, c) - ((v * 0.5 + row) * (row - v) - v * v)) < tolerance * (1 + row * row));
      const double dx = at(dy, c) * (0.5 * (row - v) - (v * 0.5 + row) - 2 * v) + d_row;
      CHECK(std::abs(at(p.dx, c) - dx) < tolerance * (1 + std::abs(row) * Width));
    }
  }
}

/// Copies or folds columns: `source(c)` is the column of x that output column c repeats.
template <class L, int Width, int Wide, class T, class Source>
void check_repeat(Source source) {
  const std::vector<T> x = ramp<T>(4 * Width, 0.25, -3);
  const std::vector<T> dy = ramp<T>(4 * Wide, 0.5, -7);
  const Passes<T> p = run_layer<L, Width, T>({2, 2, 2}, x, dy);
  std::vector<T> dx(x.size(), T(0));
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 0; c < Wide; ++c) {
      INFO(L::name << ", row " << r << ", column " << c);
      const auto from = r * Width + static_cast<std::size_t>(source(static_cast<int>(c)));
      CHECK(p.y[r * Wide + c] == x[from]);
      dx[from] += dy[r * Wide + c];
    }
  CHECK(p.dx == dx);  // sums of quarters and halves: exact
}

template <int Wide>
struct Tile {
  static constexpr std::string_view name = "tile";
  static constexpr Value forward(Value x) { return tile(x, Wide); }
};
template <int Wide>
struct Spread {
  static constexpr std::string_view name = "spread";
  static constexpr Value forward(Value x) { return spread(x, Wide); }
};
/// x[3:], x[:5], x[2:4]
struct Concat {
  static constexpr std::string_view name = "concat";
  static constexpr Value forward(Value x) { return concat(slice(x, 3, x.width() - 3), slice(x, 0, 5), slice(x, 2, 2)); }
};

template <Domain D, int Narrow, Fold F>
struct Sum {
  static constexpr std::string_view name = "sum";
  static constexpr Value forward(Value x) { return sum_to(x, D, Narrow, F); }
};

template <int Wide, int Narrow, Fold F, class T>
void check_sum() {
  INFO("from " << Wide << " to " << Narrow << (F == Fold::tile ? ", tile" : ", spread"));
  const std::vector<T> x = ramp<T>(6 * Wide, 0.25, -3);
  const std::vector<T> dy = ramp<T>(6 * Narrow, 0.5, -7);
  const Passes<T> p = run_layer<Sum<Domain::tokens, Narrow, F>, Wide, T>({3, 2, 2}, x, dy);
  std::vector<T> y(dy.size(), T(0));
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 0; c < Wide; ++c) {
      const std::size_t to = r * Narrow + (F == Fold::tile ? c % Narrow : c / (Wide / Narrow));
      y[to] += x[r * Wide + c];
      CHECK(p.dx[r * Wide + c] == dy[to]);
    }
  CHECK(p.y == y);
}

}  // namespace

TEST_CASE("Loops handle every width, with whole registers and remainders") {
  check_mixed<1, double>(1e-14);
  check_mixed<3, double>(1e-14);
  check_mixed<8, double>(1e-14);
  check_mixed<17, double>(1e-14);
  check_mixed<40, double>(1e-14);
  check_mixed<1, float>(1e-5);
  check_mixed<3, float>(1e-5);
  check_mixed<8, float>(1e-5);
  check_mixed<17, float>(1e-5);
  check_mixed<40, float>(1e-5);
}

TEST_CASE("Tile repeats the block, and its gradient sums over the copies") {
  check_repeat<Tile<9>, 3, 9, double>([](int c) { return c % 3; });
  check_repeat<Tile<40>, 8, 40, double>([](int c) { return c % 8; });
  check_repeat<Tile<48>, 16, 48, float>([](int c) { return c % 16; });
  check_repeat<Tile<17>, 1, 17, float>([](int) { return 0; });
}

TEST_CASE("Spread repeats each column in place, and its gradient sums over the copies") {
  check_repeat<Spread<9>, 3, 9, double>([](int c) { return c / 3; });
  check_repeat<Spread<40>, 5, 40, double>([](int c) { return c / 8; });
  check_repeat<Spread<48>, 3, 48, float>([](int c) { return c / 16; });
  check_repeat<Spread<17>, 1, 17, float>([](int) { return 0; });
}

TEST_CASE("Concat puts columns side by side, and its gradient goes to where they came from") {
  const auto source = [](int width) {
    return [width](int c) { return c < width - 3 ? c + 3 : c < width + 2 ? c - (width - 3) : c - (width + 2) + 2; };
  };
  check_repeat<Concat, 5, 9, double>(source(5));
  check_repeat<Concat, 19, 23, float>(source(19));
}

TEST_CASE("Sums over columns fold as they say, and their gradient repeats") {
  check_sum<12, 4, Fold::tile, double>();
  check_sum<12, 4, Fold::spread, double>();
  check_sum<17, 1, Fold::tile, float>();
  check_sum<48, 16, Fold::tile, float>();
  check_sum<48, 3, Fold::spread, float>();
}

namespace {

/// A parameter that the batch shares: its gradient is a sum over tokens.
template <Domain D>
struct Shift {
  static constexpr std::string_view name = "shift";
  static constexpr Value forward(Value x) {
    if (D == Domain::positions)
      return x + parameter(x, "p", {.dims = {Parameter::per_max_length, x.width()}, .rank = 2});
    return x + parameter(x, "p", {.dims = {x.width()}, .rank = 1});
  }
};

template <Domain D, int Width, class T>
void check_row_sum() {
  const Shape shape{3, 2, 4};
  using Low = Lowered<Shift<D>, Width>;
  cpu::SingleLayer<T> layer(cpu::block<Low, T>, shape);
  const std::vector<T> x = ramp<T>(6 * Width, 0.25, -3);
  const std::vector<T> dy = ramp<T>(6 * Width, 0.5, -7);
  const Index rows = D == Domain::positions ? shape.max_length : 1;
  std::vector<T> expected(static_cast<std::size_t>(rows * Width), T(2));  // is added to what is there
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 0; c < Width; ++c)
      expected[(D == Domain::positions ? r % 2 : 0) * Width + c] += dy[r * Width + c];
  std::vector<T> y(x.size());
  std::vector<T> dx(x.size());
  layer.gradients().fill(T(2));
  for (Index i = 0; i < rows * Width; ++i) layer.parameter(0)[i] = T(0.5) * static_cast<T>(i);
  layer.forward(x.data(), y.data());
  layer.backward(x.data(), y.data(), dy.data(), dx.data());
  CHECK(std::vector<T>(layer.gradient(0), layer.gradient(0) + rows * Width) == expected);
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 0; c < Width; ++c) {
      const std::size_t row = D == Domain::positions ? r % 2 : 0;
      CHECK(y[r * Width + c] == x[r * Width + c] + T(0.5) * static_cast<T>(row * Width + c));
    }
  CHECK(dx == dy);
}

}  // namespace

TEST_CASE("Rows are repeated along what a value does not depend on, and gradients summed over it") {
  check_row_sum<Domain::one, 5, double>();
  check_row_sum<Domain::positions, 5, double>();
  check_row_sum<Domain::one, 19, float>();
  check_row_sum<Domain::positions, 19, float>();
}

}  // namespace mad::testing
