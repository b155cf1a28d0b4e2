// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Plain loops in double precision for the formulas of a layer, one token after the other, and the comparison with the
/// layer itself. Nothing here goes through a graph.
#pragma once

#include <mad/testing/trial.hpp>

#include <catch.hpp>
#include <cmath>
#include <string>
#include <vector>

namespace mad::testing::plain {

using Row = std::vector<double>;  ///< the channels of one token
using Rows = std::vector<Row>;    ///< the tokens of one sequence

inline double sigmoid(double a) { return 1 / (1 + std::exp(-a)); }
inline double silu(double a) { return a * sigmoid(a); }
inline double softplus(double a) { return std::log1p(std::exp(a)); }

/// x W^T for W of shape (out, in).
inline Row linear(const Row& x, const Row& weight) {
  Row y(weight.size() / x.size(), 0.0);
  for (std::size_t o = 0; o < y.size(); ++o)
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
  return y;
}

/// x / sqrt(mean(x^2) + eps) over each group of `group` channels; one weight per channel, or per channel of a group.
inline Row rms_norm(const Row& x, std::size_t group, const Row& weight, double eps) {
  Row y(x.size());
  for (std::size_t first = 0; first < x.size(); first += group) {
    double mean = 0;
    for (std::size_t c = first; c < first + group; ++c) mean += x[c] * x[c] / static_cast<double>(group);
    for (std::size_t c = first; c < first + group; ++c) y[c] = x[c] / std::sqrt(mean + eps) * weight[c % weight.size()];
  }
  return y;
}

/// The columns [first, first + width).
inline Row columns(const Row& x, std::size_t first, std::size_t width) {
  const auto from = x.begin() + static_cast<std::ptrdiff_t>(first);
  return Row(from, from + static_cast<std::ptrdiff_t>(width));
}

/// The parameters of a trial by name.
class Parameters {
public:
  explicit Parameters(const Trial& trial) : trial_(trial) {}
  Row operator[](const std::string& name) const {
    for (const Trial::Tensor& tensor : trial_.tensors())
      if (tensor.name == name) return Row(tensor.value, tensor.value + tensor.count);
    FAIL("the layer has no parameter " << name);
    return {};
  }

private:
  const Trial& trial_;
};

/// Compares layer L on random numbers with `forward(Parameters, Rows) -> Rows`, a loop over one sequence, at several
/// shapes, to 1e-12. `parameters` is how many trained parameters there must be.
template <class L, int Width, class Forward>
void check(std::size_t parameters, const Forward& forward) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{2, 7, 9}, Shape{3, 40, 40}, Shape{1, 150, 150}}) {
    INFO(L::name << ", width " << Width << ", batch " << shape.batch << ", length " << shape.length);
    Trial trial(cpu::block<Lowered<L, Width>, double>, shape, 0.1, 5);
    CHECK(trial.tensors().size() == 1 + parameters);  // and the input
    trial.forward();
    double error = 0;
    double scale = 0;
    for (Index b = 0; b < shape.batch; ++b) {
      Rows x;
      for (Index t = 0; t < shape.length; ++t) {
        const double* token = trial.input().data() + (b * shape.length + t) * Width;
        x.emplace_back(token, token + Width);
      }
      const Rows y = forward(Parameters(trial), x);
      REQUIRE(y.size() == x.size());
      for (Index t = 0; t < shape.length; ++t) {
        const double* found = trial.output().data() + (b * shape.length + t) * Width;
        REQUIRE(y[static_cast<std::size_t>(t)].size() == Width);
        for (int c = 0; c < Width; ++c) {
          const double expected = y[static_cast<std::size_t>(t)][static_cast<std::size_t>(c)];
          error = std::isfinite(found[c]) ? std::max(error, std::abs(found[c] - expected)) : INFINITY;
          scale = std::max(scale, std::abs(expected));
        }
      }
    }
    CHECK(error / scale < 1e-12);
  }
}

}  // namespace mad::testing::plain
