// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/cpu/kernels/fft.hpp>

#include <complex>
#include <random>
#include <vector>

using mad::Index;

namespace {

Index bit_reverse(Index p, Index n) {
  Index reversed = 0;
  for (Index bit = 1; bit < n; bit *= 2) reversed = 2 * reversed + (p / bit) % 2;
  return reversed;
}

/// Largest error of the forward transform against the defining sum, relative to the largest value, and of the inverse
/// transform of the result against the input. Every lane carries its own input.
template <class T>
std::pair<double, double> transform_errors(Index n) {
  constexpr Index lanes = mad::cpu::Lanes<T>::size;
  std::mt19937 generator(static_cast<unsigned>(n));
  std::normal_distribution<double> normal;
  std::vector<T> data(static_cast<std::size_t>(2 * n * lanes));
  for (T& x : data) x = static_cast<T>(normal(generator));
  const std::vector<T> input = data;
  const auto at = [&](const std::vector<T>& x, Index p, Index lane) {
    return std::complex<double>(static_cast<double>(x[static_cast<std::size_t>(2 * p * lanes + lane)]),
                                static_cast<double>(x[static_cast<std::size_t>((2 * p + 1) * lanes + lane)]));
  };
  mad::cpu::fft_forward(data.data(), n);
  double error = 0, largest = 0;
  for (Index lane = 0; lane < lanes; ++lane) {
    for (Index p = 0; p < n; ++p) {
      std::complex<double> sum = 0;
      for (Index j = 0; j < n; ++j) {
        const Index turn = bit_reverse(p, n) * j % n;
        sum += at(input, j, lane) *
               std::polar(1.0, -2 * 3.14159265358979323846 * static_cast<double>(turn) / static_cast<double>(n));
      }
      error = std::max(error, std::abs(at(data, p, lane) - sum));
      largest = std::max(largest, std::abs(sum));
    }
  }
  mad::cpu::fft_inverse(data.data(), n);
  double round_trip = 0;
  for (Index lane = 0; lane < lanes; ++lane) {
    for (Index p = 0; p < n; ++p) {
      round_trip = std::max(round_trip, std::abs(at(data, p, lane) / static_cast<double>(n) - at(input, p, lane)));
    }
  }
  return {error / largest, round_trip};
}

}  // namespace

TEST_CASE("the transform is the discrete Fourier transform in bit-reversed order", "[cpu][fft]") {
  for (const Index n : {4, 8, 16, 32, 64, 128, 256, 512}) {
    CAPTURE(n);
    const auto [error, round_trip] = transform_errors<double>(n);
    CHECK(error < 1e-14);
    CHECK(round_trip < 1e-14);
    const auto [error_single, round_trip_single] = transform_errors<float>(n);
    CHECK(error_single < 2e-6);
    CHECK(round_trip_single < 4e-6);
  }
}

TEST_CASE("a long transform keeps energy", "[cpu][fft]") {
  const Index n = 8192, lanes = mad::cpu::Lanes<double>::size;
  std::mt19937 generator(7);
  std::normal_distribution<double> normal;
  std::vector<double> data(static_cast<std::size_t>(2 * n * lanes));
  for (double& x : data) x = normal(generator);
  double before = 0, after = 0;
  for (double x : data) before += x * x;
  mad::cpu::fft_forward(data.data(), n);
  for (double x : data) after += x * x;
  CHECK(after / (before * static_cast<double>(n)) == Approx(1.0).epsilon(1e-13));
}
