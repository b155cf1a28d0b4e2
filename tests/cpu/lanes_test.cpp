// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/cpu/packets/lanes.hpp>

#include <cmath>
#include <limits>
#include <vector>

using mad::Index;
using mad::cpu::Lanes;

namespace {

template <class T>
T exponential(T x) {
  const std::vector<T> in(static_cast<std::size_t>(Lanes<T>::size), x);
  std::vector<T> out(in.size());
  Lanes<T>::store(out.data(), Lanes<T>::exp(Lanes<T>::load(in.data())));
  return out.back();
}

template <class T>
double worst_relative_error() {
  double worst = 0;
  for (double x = -80; x < 80; x += 0.0137) {
    const T argument = static_cast<T>(x);
    const double exact = std::exp(static_cast<double>(argument));
    worst = std::max(worst, std::abs(static_cast<double>(exponential(argument)) - exact) / exact);
  }
  return worst;
}

template <class T>
void check_parts() {
  const Index size = Lanes<T>::size;
  std::vector<T> from(static_cast<std::size_t>(size)), to(from.size());
  for (Index i = 0; i < size; ++i) from[static_cast<std::size_t>(i)] = static_cast<T>(i + 1);
  for (Index count = 1; count <= size; ++count) {
    std::fill(to.begin(), to.end(), T(-1));
    Lanes<T>::store(to.data(), Lanes<T>::load(from.data(), count), size);
    for (Index i = 0; i < size; ++i)
      CHECK(to[static_cast<std::size_t>(i)] == (i < count ? static_cast<T>(i + 1) : T(0)));
    std::fill(to.begin(), to.end(), T(-1));
    Lanes<T>::store(to.data(), Lanes<T>::load(from.data()), count);
    for (Index i = 0; i < size; ++i)
      CHECK(to[static_cast<std::size_t>(i)] == (i < count ? static_cast<T>(i + 1) : T(-1)));
  }
}

}  // namespace

TEST_CASE("the exponential of a register is within two units in the last place", "[cpu][lanes]") {
  CHECK(worst_relative_error<float>() < 2 * std::numeric_limits<float>::epsilon());
  CHECK(worst_relative_error<double>() < 2 * std::numeric_limits<double>::epsilon());
  CHECK(exponential(0.0F) == 1.0F);
  CHECK(exponential(-1000.0F) < std::numeric_limits<float>::min() * 2);
  CHECK(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("part of a register touches only that part of memory", "[cpu][lanes]") {
  check_parts<float>();
  check_parts<double>();
}
