// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The device against the CPU in double precision: one batch, every number.
#pragma once

#include "catch.hpp"
#include "device_model.hpp"

#include <mad/cpu/model.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <random>

namespace mad::testing {

inline bool no_device() {
  if (device_count() > 0) return false;
  WARN("skipped: this machine has no GPU");
  return true;
}

inline TokenRows random_tokens(Index rows, Index length, int vocab_size, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int> token(0, vocab_size - 1);
  TokenRows t{.rows = rows, .length = length, .inputs = {}, .targets = {}};
  for (Index i = 0; i < rows * length; ++i) {
    t.inputs.push_back(token(generator));
    t.targets.push_back(i % 5 == 3 ? cpu::ignored_target : token(generator));
  }
  return t;
}

/// Parameters away from the initial values, where much is 0 or 1, rounded to what the device holds.
template <class Model>
std::vector<float> lively_parameters(const Model& model, const double* initial, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<float> values(static_cast<std::size_t>(model.layout().size));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(initial[i] * (1 + 0.1 * normal(generator)) + 0.02 * normal(generator));
  return values;
}

/// The nearest numbers that bfloat16 holds: what the device multiplies with.
inline void round_to_bfloat16(std::span<float> values) {
  for (float& x : values) {
    auto bits = std::bit_cast<std::uint32_t>(x);
    bits += 0x7fff + (bits >> 16 & 1);
    x = std::bit_cast<float>(bits & 0xffff0000u);
  }
}

/// |a - b| / |b|, where a part of the whole counts as at least `least`.
template <class A, class B>
double distance(std::span<const A> a, std::span<const B> b, double least = 0) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    if (!std::isfinite(d)) return INFINITY;
    difference += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference) / std::max({std::sqrt(size), least, 1e-300});
}

/// The gradient of each parameter by itself, against its norm or \p least.
template <class T>
void check_each(std::span<const float> found, std::span<const T> expected, const ParameterLayout& layout,
                double tolerance, double least = 0) {
  for (const ParameterInfo& info : layout.infos) {
    INFO("gradient of " << info.name);
    const auto part = [&](auto all) {
      return all.subspan(static_cast<std::size_t>(info.offset), static_cast<std::size_t>(info.size));
    };
    CHECK(distance(part(found), part(expected), least) < tolerance);
  }
}

/// The gradient of all parameters, and of each by itself: against its own norm, or a share of the whole gradient's
/// where that is more. In bfloat16 the values that a layer passes on carry errors of about a hundredth, so that
/// parameters whose gradient is a small difference of large sums (the filter network of Hyena) are judged against more
/// of the whole.
inline void check_gradients(std::span<const float> found, std::span<const double> expected,
                            const ParameterLayout& layout, Precision precision, double tolerance) {
  const double whole = std::sqrt(std::inner_product(expected.begin(), expected.end(), expected.begin(), 0.0));
  CHECK(distance(found, expected) < tolerance);
  const double each = precision == Precision::exact ? tolerance : 3 * tolerance;
  const double least = (precision == Precision::exact ? 0.01 : 0.05) * whole;
  check_each(found, expected, layout, each, least);
}

/// For tools that slow kernels down a hundredfold: with MAD_TEST_FEW_SHAPES set, one short batch per net and precision.
inline bool few_shapes() { return std::getenv("MAD_TEST_FEW_SHAPES") != nullptr; }

struct Comparison {
  Precision precision = Precision::exact;
  Index batch = 2;
  Index length = 16;
  Index max_length = 0;  ///< 0: the length
  Positions positions = Positions::none;
  int vocab_size = 16;
  double bf16_tolerance = 2e-2;  ///< more for layers that amplify the rounding of what they are given
  double parts_tolerance = 0;    ///< of each parameter's gradient, in micro-batches against the whole batch; 0: any
  bool keeps_shape = false;      ///< whatever `few_shapes` says
};

/// One batch on both devices: logits, losses, predictions, metrics, and the gradient of every parameter. In bfloat16
/// parameters are such that it holds them: what is compared is the device's arithmetic, not what becomes of a layer
/// whose parameters are rounded. (The reference's models in golden.cpp have parameters of any kind.)
template <class Net, int Width, Norm N>
void compare(Comparison c) {
  if (few_shapes() && !c.keeps_shape) {
    c.batch = std::min<Index>(c.batch, 3);
    c.length = std::min<Index>(c.length, 140);
  }
  INFO("batch " << c.batch << ", length " << c.length << ", max_length " << c.max_length << ", "
                << (c.precision == Precision::exact ? "fp32" : "bf16"));
  using Type = LanguageModel<Net, Width, N>;
  const double tolerance = c.precision == Precision::exact ? 2e-5 : c.bf16_tolerance;
  const ModelOptions options{
      .vocab_size = c.vocab_size, .max_length = c.max_length > 0 ? c.max_length : c.length, .positions = c.positions};
  cpu::Threads threads(0);
  cpu::Model<double> reference(cpu::architecture<Type, double>(), options, 1, threads);
  std::vector<float> parameters = lively_parameters(reference, reference.parameters(), 2);
  if (c.precision == Precision::mixed) round_to_bfloat16(parameters);
  std::copy(parameters.begin(), parameters.end(), reference.parameters());
  const auto device = make_device_model<Net, Width, N>(c.precision, options, 1);
  device->set_parameters(parameters);
  device->poison(true);

  const TokenRows tokens = random_tokens(c.batch, c.length, c.vocab_size, 3);
  std::vector<Index> rows(static_cast<std::size_t>(c.batch));
  std::iota(rows.begin(), rows.end(), Index{0});
  const cpu::Batch batch{tokens.inputs.data(), tokens.targets.data(), c.length, c.length, rows};
  cpu::BatchOutput<double> expected;
  reference.gradient(batch, expected);
  const DeviceResult found = device->gradient(tokens);

  const std::vector<double> logits = reference.logits(batch);
  CHECK(distance<float, double>(found.logits, logits) < tolerance);
  CHECK(found.loss == Approx(expected.loss).epsilon(tolerance));
  CHECK(distance<float, double>(found.negative_log_likelihood, expected.negative_log_likelihood) < tolerance);
  if (c.precision == Precision::exact) CHECK(found.predictions == expected.predictions);

  const std::span<const double> gradients(reference.gradients(), parameters.size());
  check_gradients(found.gradients, gradients, reference.layout(), c.precision, tolerance);

  if (few_shapes()) return;
  const DeviceResult again = device->gradient(tokens);
  CHECK(again.logits == found.logits);
  CHECK(again.gradients == found.gradients);

  if (c.batch == 1) return;
  INFO("in micro-batches");
  device->use_micro_batches((c.batch + 1) / 2);  // the second is smaller where the batch is odd
  const DeviceResult parts = device->gradient(tokens);
  CHECK(parts.loss == Approx(expected.loss).epsilon(tolerance));
  if (c.precision == Precision::exact) {
    CHECK(parts.accuracy == found.accuracy);
    CHECK(parts.predictions == found.predictions);
  }
  CHECK(distance<float, double>(parts.negative_log_likelihood, expected.negative_log_likelihood) < tolerance);
  check_gradients(parts.gradients, gradients, reference.layout(), c.precision, tolerance);
  if (c.parts_tolerance > 0) check_each<float>(parts.gradients, found.gradients, reference.layout(), c.parts_tolerance);
}

/// The shapes at which kernels differ: length 1, odd lengths, batch 1, longer than every tile, shorter than the
/// maximum.
/// \p length_one is the tolerance in bfloat16 of sequences of one token.
template <class Net, int Width, Norm N>
void compare_shapes_at(Precision precision, double bf16_tolerance = Comparison{}.bf16_tolerance,
                       double length_one = Comparison{}.bf16_tolerance) {
  if (no_device()) return;
  for (Comparison c : {Comparison{.batch = 3, .length = 1}, Comparison{.batch = 1, .length = 37},
                       Comparison{.batch = 5, .length = 128, .vocab_size = 33},
                       Comparison{.batch = 2, .length = 77, .max_length = 100}}) {
    if (few_shapes() && c.length != 77) continue;
    c.precision = precision;
    c.bf16_tolerance = c.length == 1 ? std::max(bf16_tolerance, length_one) : bf16_tolerance;
    compare<Net, Width, N>(c);
  }
}

template <class Net, int Width, Norm N>
void compare_shapes(double bf16_tolerance = Comparison{}.bf16_tolerance) {
  compare_shapes_at<Net, Width, N>(Precision::exact);
  compare_shapes_at<Net, Width, N>(Precision::mixed, bf16_tolerance);
}

}  // namespace mad::testing
