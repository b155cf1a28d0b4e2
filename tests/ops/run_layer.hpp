// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A layer without parameters on given numbers.
#pragma once

#include <mad/cpu/single_layer.hpp>

#include <vector>

namespace mad::testing {

template <class T>
struct Passes {
  std::vector<T> y;   ///< (tokens, output width)
  std::vector<T> dx;  ///< (tokens, Width)
};

/// One sequence per row of `shape`; x (tokens, Width) forward, dy (tokens, output width) backward.
template <class L, int Width, class T>
Passes<T> run_layer(const Shape& shape, const std::vector<T>& x, const std::vector<T>& dy) {
  using Low = Lowered<L, Width>;
  cpu::SingleLayer<T> layer(cpu::block<Low, T>, shape);
  Passes<T> p{std::vector<T>(dy.size()), std::vector<T>(x.size())};
  layer.forward(x.data(), p.y.data());
  layer.backward(x.data(), p.y.data(), dy.data(), p.dx.data());
  return p;
}

/// Small numbers of both signs, all different.
template <class T>
std::vector<T> ramp(Index count, double step, double start) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<T>(start + step * static_cast<double>(i * 7 % 31));
  return values;
}

}  // namespace mad::testing
