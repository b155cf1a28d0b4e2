// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/norm.hpp>
#include <mad/train/safetensors.hpp>

#include "catch.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using mad::Index;
using mad::View;

namespace {

enum class Kind { layer, rms, group, head_rms };

/// One normalisation: rows of `parts` times `size`.
struct Case {
  Kind kind;
  Index rows, parts, size, gap;  // gap: numbers between rows
  bool weight, bias;
  double eps;

  bool centered() const { return kind == Kind::layer || kind == Kind::group; }
  Index width() const { return parts * size; }
  Index stride() const { return width() + gap; }
  Index parameters() const { return kind == Kind::head_rms ? size : width(); }
};

template <class T>
std::vector<T> random_values(Index count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.3, 1.5);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

template <class T>
struct Tensors {
  explicit Tensors(const Case& c)
      : x(random_values<T>(c.rows * c.stride(), 1)),
        d_y(random_values<T>(c.rows * c.stride(), 2)),
        y(x.size(), T(-7)),
        d_x(x.size(), T(-7)),
        weight(random_values<T>(c.parameters(), 3)),
        bias(random_values<T>(c.parameters(), 4)),
        d_weight(random_values<T>(c.parameters(), 5)),
        d_bias(random_values<T>(c.parameters(), 6)) {}
  std::vector<T> x, d_y, y, d_x, weight, bias, d_weight, d_bias;
};

template <int Size, class T>
void run_forward(const Case& c, const T* x, const T* weight, const T* bias, T* y) {
  using namespace mad::cpu;
  const View<const T> in{x, c.stride()};
  const View<T> out{y, c.stride()};
  if (c.kind == Kind::layer) layer_norm_forward<Size, T>(in, weight, bias, out, c.rows, c.size, c.eps);
  if (c.kind == Kind::rms) rms_norm_forward<Size, T>(in, weight, out, c.rows, c.size, c.eps);
  if (c.kind == Kind::group) group_norm_forward<Size, T>(in, weight, bias, out, c.rows, c.width(), c.parts, c.eps);
  if (c.kind == Kind::head_rms) head_rms_norm_forward<Size, T>(in, weight, out, c.rows, c.parts, c.size, c.eps);
}

template <int Size, class T>
void run_backward(const Case& c, const T* x, const T* weight, const T* d_y, T* d_x, T* d_weight, T* d_bias) {
  using namespace mad::cpu;
  const View<const T> in{x, c.stride()}, d_out{d_y, c.stride()};
  const View<T> d_in{d_x, c.stride()};
  if (c.kind == Kind::layer) {
    layer_norm_backward<Size, T>(in, weight, d_out, d_in, d_weight, d_bias, c.rows, c.size, c.eps);
  }
  if (c.kind == Kind::rms) rms_norm_backward<Size, T>(in, weight, d_out, d_in, d_weight, c.rows, c.size, c.eps);
  if (c.kind == Kind::group) {
    group_norm_backward<Size, T>(in, weight, d_out, d_in, d_weight, d_bias, c.rows, c.width(), c.parts, c.eps);
  }
  if (c.kind == Kind::head_rms) {
    head_rms_norm_backward<Size, T>(in, weight, d_out, d_in, d_weight, c.rows, c.parts, c.size, c.eps);
  }
}

template <class T>
double sum_of(const std::vector<T>& values) {
  double sum = 0;
  for (const T value : values) sum += static_cast<double>(value);
  return sum;
}

/// The definition, in double, with the derivative of every output by every input of its part written out.
struct Definition {
  std::vector<double> y, d_x, d_weight, d_bias;

  template <class T>
  Definition(const Case& c, const Tensors<T>& in)
      : y(in.y.begin(), in.y.end()),
        d_x(in.d_x.begin(), in.d_x.end()),
        d_weight(in.d_weight.begin(), in.d_weight.end()),
        d_bias(in.d_bias.begin(), in.d_bias.end()) {
    const double n = static_cast<double>(c.size);
    for (Index r = 0; r < c.rows; ++r) {
      for (Index p = 0; p < c.parts; ++p) {
        auto at = [&](Index i) { return static_cast<std::size_t>(r * c.stride() + p * c.size + i); };
        auto parameter = [&](Index i) {
          return static_cast<std::size_t>(c.kind == Kind::head_rms ? i : p * c.size + i);
        };
        auto weight = [&](Index i) { return c.weight ? static_cast<double>(in.weight[parameter(i)]) : 1.0; };
        double mean = 0, square = 0;
        for (Index i = 0; i < c.size; ++i) mean += c.centered() ? static_cast<double>(in.x[at(i)]) / n : 0.0;
        for (Index i = 0; i < c.size; ++i) square += std::pow(static_cast<double>(in.x[at(i)]) - mean, 2) / n;
        const double deviation = std::sqrt(square + c.eps);
        for (Index i = 0; i < c.size; ++i) {
          const double normal = (static_cast<double>(in.x[at(i)]) - mean) / deviation;
          y[at(i)] = normal * weight(i) + (c.bias ? static_cast<double>(in.bias[parameter(i)]) : 0.0);
          d_weight[parameter(i)] += static_cast<double>(in.d_y[at(i)]) * normal;
          d_bias[parameter(i)] += static_cast<double>(in.d_y[at(i)]);
          d_x[at(i)] = 0;
          for (Index o = 0; o < c.size; ++o) {
            const double other = (static_cast<double>(in.x[at(o)]) - mean) / deviation;
            const double slope = ((i == o) - (c.centered() ? 1 / n : 0.0) - normal * other / n) / deviation;
            d_x[at(i)] += static_cast<double>(in.d_y[at(o)]) * weight(o) * slope;
          }
        }
      }
    }
  }
};

template <class T>
double largest_difference(const std::vector<T>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= worst)) worst = std::isnan(difference) ? INFINITY : difference;
  }
  return worst;
}

template <int Size, class T>
void check(const Case& c) {
  CAPTURE(Size, sizeof(T), static_cast<int>(c.kind), c.rows, c.parts, c.size, c.gap, c.weight, c.bias, c.eps);
  Tensors<T> t(c);
  const Definition expected(c, t);
  const T* weight = c.weight ? t.weight.data() : nullptr;
  const T* bias = c.bias ? t.bias.data() : nullptr;
  run_forward<Size, T>(c, t.x.data(), weight, bias, t.y.data());
  run_backward<Size, T>(c, t.x.data(), weight, t.d_y.data(), t.d_x.data(), t.d_weight.data(), t.d_bias.data());
  const double bound = sizeof(T) == 4 ? 2e-5 : 1e-13;
  const double several = 10 * static_cast<double>(c.rows * c.parts);
  CHECK(largest_difference(t.y, expected.y) < bound);
  CHECK(largest_difference(t.d_x, expected.d_x) < 10 * bound);
  CHECK(largest_difference(t.d_weight, expected.d_weight) < several * bound);
  if (c.centered()) CHECK(largest_difference(t.d_bias, expected.d_bias) < several * bound);

  // In place, and without the gradients of the parameters.
  std::vector<T> x = t.x, d_y = t.d_y;
  run_backward<Size, T>(c, x.data(), weight, d_y.data(), d_y.data(), nullptr, nullptr);
  run_forward<Size, T>(c, x.data(), weight, bias, x.data());
  for (Index r = 0; r < c.rows; ++r) {
    for (Index i = 0; i < c.width(); ++i) {
      const auto at = static_cast<std::size_t>(r * c.stride() + i);
      CHECK(x[at] == t.y[at]);
      CHECK(d_y[at] == t.d_x[at]);
    }
  }
}

template <class T>
void check_file(const std::string& name, Kind kind, Index parts, double eps, double divisor, const std::string& weight,
                const std::string& bias) {
  CAPTURE(name);
  const auto file = mad::train::Safetensors::read(std::string(MAD_GOLDEN_DIR "/layers/") + name + ".safetensors");
  const auto& shape = file.shape("input");
  const Case c{kind, shape[0] * shape[1], parts, shape[2] / parts, 0, true, !bias.empty(), eps};
  std::vector<double> x = file.values<double>("input");
  for (double& value : x) value /= divisor;
  const auto w = file.values<double>("param." + weight);
  const auto b = bias.empty() ? std::vector<double>{} : file.values<double>("param." + bias);
  std::vector<double> y(x.size()), d_x(x.size()), d_weight(w.size()), d_bias(w.size());
  run_forward<mad::cpu::any_size, double>(c, x.data(), w.data(), b.empty() ? nullptr : b.data(), y.data());
  run_backward<mad::cpu::any_size, double>(c, x.data(), w.data(), file.values<double>("grad_output").data(), d_x.data(),
                                           d_weight.data(), d_bias.data());
  for (double& value : d_x) value /= divisor;
  CHECK(largest_difference(y, file.values<double>("output")) < 1e-12);
  CHECK(largest_difference(d_x, file.values<double>("grad_input")) < 1e-12);
  CHECK(largest_difference(d_weight, file.values<double>("grad." + weight)) < 1e-12);
  if (!bias.empty()) CHECK(largest_difference(d_bias, file.values<double>("grad." + bias)) < 1e-12);
}

}  // namespace

TEST_CASE("norms agree with their definitions, forward and backward") {
  for (const auto& [weight, bias] : std::vector<std::pair<bool, bool>>{{true, true}, {true, false}, {false, false}}) {
    for (const Index rows : {1, 5}) {
      for (const Index gap : {0, 3}) {
        for (const Index size : {1, 2, 7, 16, 33, 128}) {
          check<mad::cpu::any_size, float>({Kind::layer, rows, 1, size, gap, weight, bias, 1e-2});
          check<mad::cpu::any_size, double>({Kind::layer, rows, 1, size, gap, weight, bias, 1e-5});
          check<mad::cpu::any_size, float>({Kind::rms, rows, 1, size, gap, weight, false, 1e-2});
          check<mad::cpu::any_size, double>({Kind::rms, rows, 1, size, gap, weight, false, 1e-5});
        }
        for (const Index parts : {1, 3, 4}) {
          for (const Index size : {1, 5, 8, 16}) {
            check<mad::cpu::any_size, float>({Kind::group, rows, parts, size, gap, weight, bias, 1e-2});
            check<mad::cpu::any_size, double>({Kind::group, rows, parts, size, gap, weight, bias, 1e-5});
            check<mad::cpu::any_size, double>({Kind::head_rms, rows, parts, size, gap, weight, false, 1e-5});
          }
        }
      }
    }
  }
}

TEST_CASE("norms of a size known at compile time agree with their definitions") {
  check<32, float>({Kind::layer, 3, 1, 32, 1, true, true, 1e-5});
  check<32, double>({Kind::rms, 3, 1, 32, 1, true, false, 1e-5});
  check<8, float>({Kind::group, 3, 4, 8, 1, true, true, 1e-3});
  check<8, double>({Kind::head_rms, 3, 4, 8, 1, true, false, 1e-5});
}

TEST_CASE("a norm's gradient agrees with finite differences") {
  const Case c{Kind::group, 2, 2, 6, 0, true, true, 1e-3};
  Tensors<double> t(c);
  std::fill(t.d_weight.begin(), t.d_weight.end(), 0.0);
  std::fill(t.d_bias.begin(), t.d_bias.end(), 0.0);
  run_backward<mad::cpu::any_size, double>(c, t.x.data(), t.weight.data(), t.d_y.data(), t.d_x.data(),
                                           t.d_weight.data(), t.d_bias.data());
  auto objective = [&] {
    run_forward<mad::cpu::any_size, double>(c, t.x.data(), t.weight.data(), t.bias.data(), t.y.data());
    std::vector<double> products(t.y.size());
    for (std::size_t i = 0; i < products.size(); ++i) products[i] = t.y[i] * t.d_y[i];
    return sum_of(products);
  };
  auto check_slopes = [&](std::vector<double>& input, const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < input.size(); ++i) {
      const double value = input[i], step = 1e-3;
      auto at = [&](double shift) {
        input[i] = value + shift;
        return objective();
      };
      const double slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
      input[i] = value;
      CAPTURE(i);
      CHECK(std::abs(slope - gradient[i]) < 1e-8);
    }
  };
  check_slopes(t.x, t.d_x);
  check_slopes(t.weight, t.d_weight);
  check_slopes(t.bias, t.d_bias);
}

TEST_CASE("norms agree with the reference") {
  check_file<double>("norm_layernorm_d32", Kind::layer, 1, 1e-5, 1, "weight", "bias");
  check_file<double>("norm_rmsnorm_d32", Kind::rms, 1, 1e-5, 1, "weight", "");
  check_file<double>("norm_groupnorm_rwkv5_d32", Kind::group, 4, 1e-5, 8, "ln_x.weight", "ln_x.bias");
  check_file<double>("norm_groupnorm_rwkv6_d32", Kind::group, 4, 64e-5, 1, "ln_x.weight", "ln_x.bias");
}
