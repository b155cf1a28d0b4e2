// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The laws that every layer keeps, each as a test on random numbers that says where it is broken.
#pragma once

#include <mad/testing/report.hpp>
#include <mad/testing/trial.hpp>

#include <cstdio>
#include <cstring>
#include <set>

namespace mad::testing {

/// Sizes, tolerances and random numbers of a proof.
struct CheckOptions {
  /// Length 1, odd lengths, one and several sequences, filters longer than the sequences.
  std::vector<Shape> shapes{{.batch = 1, .length = 1, .max_length = 1},  {.batch = 3, .length = 1, .max_length = 4},
                            {.batch = 3, .length = 2, .max_length = 2},  {.batch = 1, .length = 5, .max_length = 9},
                            {.batch = 3, .length = 7, .max_length = 7},  {.batch = 2, .length = 16, .max_length = 21},
                            {.batch = 1, .length = 33, .max_length = 33}};
  /// Coordinates of each tensor whose derivative is taken alone. All of them together are tested along a random
  /// direction besides, so that no coordinate goes untested.
  Index coordinates = 12;
  /// Of a derivative, relative to the largest of its tensor (along a direction: to the gradient's norm). Central
  /// differences of fourth order leave about 1e-10; what a formula loses by cancellation comes on top.
  double tolerance = 1e-6;
  /// Deviation of what is added to the initial values of parameters.
  double disturbance = 0.1;
  /// Change of an output that may follow from a later token or another sequence, relative to the largest output. 0
  /// demands the same bits. Convolutions by transforms mix roundings over the sequence and need about 1e-13.
  double leak = 0;
  std::uint64_t seed = 1;
};

/// Proves the laws at one shape after the other. A law that is found broken is not tested at the shapes that follow.
class Laws {
public:
  Laws(const cpu::Block<double>& block, const CheckOptions& options, Report& report)
      : block_(block), options_(options), report_(report) {}

  /// All laws that need no other plan of the layer.
  void prove(const Shape& shape) {
    shape_ = shape;
    if (broken_.count(not_repeatable) != 0 || broken_.count(overwritten) != 0) return;  // no number means anything
    Trial trial(block_, shape, options_.disturbance, options_.seed);
    trial.run();
    if (!finite(trial)) return;
    if (!repeatable(trial)) return;
    gradients_are_added();
    causal();
    derivatives(trial);
  }

  /// A plan made with other passes gives the same numbers, up to the order of sums.
  void agrees(const Shape& shape, const cpu::Block<double>& other, const std::string& how) {
    shape_ = shape;
    if (broken_.count(how) != 0) return;
    Trial a(block_, shape, options_.disturbance, options_.seed);
    Trial b(other, shape, options_.disturbance, options_.seed);
    a.run();
    b.run();
    constexpr double rounding = 1e-12;
    compare(how, "output", b.output(), a.output(), rounding * largest(a.output()));
    // Some gradients are zero by algebra, so that only their rounding is left: all are measured by the largest.
    double scale = largest(a.output_gradient());
    for (const Trial::Tensor& tensor : a.tensors()) scale = std::max(scale, largest(tensor.gradient));
    for (std::size_t i = 0; i < a.tensors().size(); ++i)
      compare(how, "gradient of " + a.tensors()[i].name, b.tensors()[i].gradient, a.tensors()[i].gradient,
              rounding * scale);
  }

private:
  inline static const std::string not_repeatable = "a second run differs";
  inline static const std::string overwritten = "what is only read was overwritten";

  static double largest(const std::vector<double>& values) {
    double most = 0;
    for (double v : values) most = std::max(most, std::abs(v));
    return most;
  }

  static std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
  }

  void fail(const std::string& law, const std::string& what) {
    broken_.insert(law);
    report_.failures.push_back(report_.subject + ", batch " + std::to_string(shape_.batch) + ", length " +
                               std::to_string(shape_.length) + ", max length " + std::to_string(shape_.max_length) +
                               ": " + what);
  }

  /// `input[sequence 1, token 4, channel 7]`, `output[...]` or `w1.weight[12]`.
  std::string place(const std::string& what, Index k) const {
    const bool output = what.find("output") != std::string::npos;
    if (!output && what.find("input") == std::string::npos) return what + "[" + std::to_string(k) + "]";
    const Index width = output ? block_.output_width : block_.width;
    const Index token = k / width;
    return what + "[sequence " + std::to_string(token / shape_.length) + ", token " +
           std::to_string(token % shape_.length) + ", channel " + std::to_string(k % width) + "]";
  }

  /// Reports the first number that is further off than `tolerance`. Not a number is always off.
  bool compare(const std::string& law, const std::string& what, const std::vector<double>& found,
               const std::vector<double>& expected, double tolerance) {
    report_.comparisons += static_cast<Index>(found.size());
    for (std::size_t k = 0; k < found.size(); ++k) {
      const bool same = tolerance == 0 ? std::memcmp(&found[k], &expected[k], sizeof(double)) == 0
                                       : std::abs(found[k] - expected[k]) <= tolerance;
      if (same) continue;
      fail(law, law + ": " + place(what, static_cast<Index>(k)) + " is " + number(found[k]) + " instead of " +
                    number(expected[k]));
      return false;
    }
    return true;
  }

  bool finite(const Trial& trial) {
    const std::string law = "finite numbers";
    const auto check = [&](const std::string& what, const std::vector<double>& values) {
      report_.comparisons += static_cast<Index>(values.size());
      for (std::size_t k = 0; k < values.size(); ++k) {
        if (std::isfinite(values[k])) continue;
        if (broken_.count(law) == 0)
          fail(law, place(what, static_cast<Index>(k)) + " is " + number(values[k]) +
                        ": memory is read before it is written (it is filled with nan), or a formula overflows");
        return false;
      }
      return true;
    };
    if (!check("output", trial.output())) return false;
    for (const Trial::Tensor& tensor : trial.tensors())
      if (!check("gradient of " + tensor.name, tensor.gradient)) return false;
    return true;
  }

  /// The same numbers in, the same bits out, in fresh memory and in used memory; and nothing that is only read changes.
  bool repeatable(const Trial& first) {
    Trial second(block_, shape_, options_.disturbance, options_.seed);
    std::vector<std::vector<double>> values;
    for (const Trial::Tensor& t : second.tensors()) values.emplace_back(t.value, t.value + t.count);
    const std::vector<double> dy = second.output_gradient();
    for (int run = 0; run < 2; ++run) {
      second.run();
      if (!compare(overwritten, "gradient of output", second.output_gradient(), dy, 0)) return false;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const Trial::Tensor& t = second.tensors()[i];
        if (!compare(overwritten, t.name, {t.value, t.value + t.count}, values[i], 0)) return false;
      }
      if (!compare(not_repeatable, "output", second.output(), first.output(), 0)) return false;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const Trial::Tensor& t = second.tensors()[i];
        if (!compare(not_repeatable, "gradient of " + t.name, t.gradient, first.tensors()[i].gradient, 0)) return false;
      }
    }
    return true;
  }

  /// Training adds up the gradients of micro-batches: every backward pass adds to what is there.
  void gradients_are_added() {
    const std::string law = "gradients must be added to what is there";
    if (broken_.count(law) != 0) return;
    constexpr double start = 3;
    constexpr int batches = 2;
    Trial zero(block_, shape_, options_.disturbance, options_.seed);
    Trial more(block_, shape_, options_.disturbance, options_.seed);
    zero.run();
    more.run(start, batches);
    for (std::size_t i = 0; i < zero.tensors().size(); ++i) {
      std::vector<double> expected = zero.tensors()[i].gradient;
      const bool input = zero.tensors()[i].parameter < 0;  // this one is overwritten
      if (!input)
        for (double& g : expected) g = start + batches * g;
      const double tolerance = input ? 0 : 1e-10 * (start + largest(expected));
      if (!compare(law, "gradient of " + zero.tensors()[i].name, more.tensors()[i].gradient, expected, tolerance))
        return;
    }
  }

  /// Another token at t changes no output before t and none of another sequence.
  void causal() {
    const std::string future = "an output depends on a later token";
    const std::string mixed = "an output depends on another sequence";
    Trial trial(block_, shape_, options_.disturbance, options_.seed);
    trial.forward();
    const std::vector<double> before = trial.output();
    const double tolerance = options_.leak * largest(before);
    random::Generator generator(options_.seed + 1);
    NormalSource normal(generator);
    const Index width = trial.width();
    for (Index b = 0; b < shape_.batch; ++b) {
      for (Index t = 0; t<shape_.length; t += shape_.length> 9 && t > 2 && t + 4 < shape_.length ? 3 : 1) {
        if (broken_.count(future) != 0 || broken_.count(mixed) != 0) return;
        const auto token = trial.input().begin() + (b * shape_.length + t) * width;
        const std::vector<double> kept(token, token + width);
        for (Index c = 0; c < width; ++c) token[c] = 3 * normal();
        trial.forward();
        std::copy(kept.begin(), kept.end(), token);
        for (Index row = 0; row < shape_.tokens(); ++row) {
          const bool other = row / shape_.length != b;
          if (!other && row % shape_.length >= t) continue;
          report_.comparisons += trial.output_width();
          const Index first = row * trial.output_width();
          for (Index k = first; k < first + trial.output_width(); ++k) {
            const double is = trial.output()[static_cast<std::size_t>(k)];
            const double was = before[static_cast<std::size_t>(k)];
            if (tolerance == 0 ? std::memcmp(&is, &was, sizeof is) == 0 : std::abs(is - was) <= tolerance) continue;
            const std::string& law = other ? mixed : future;
            fail(law, law + ": " + place("output", k) + " goes from " + number(was) + " to " + number(is) +
                          " when token " + std::to_string(t) + " of sequence " + std::to_string(b) + " changes");
            return;
          }
        }
      }
    }
  }

  /// Gradients are the derivatives that central differences see.
  void derivatives(Trial& trial) {
    random::Generator generator(options_.seed + 2);
    NormalSource normal(generator);
    for (Trial::Tensor& tensor : trial.tensors()) {
      const std::string law = "gradient of " + tensor.name;
      if (broken_.count(law) != 0 || tensor.count == 0) continue;
      std::vector<double> direction(static_cast<std::size_t>(tensor.count), 0.0);
      const double scale = largest(tensor.gradient);
      Derivative d;
      Index wrong = -1;
      for (Index n = 0; n < std::min(options_.coordinates, tensor.count) && wrong < 0; ++n) {
        const bool all = tensor.count <= options_.coordinates;
        const Index k = all ? n : static_cast<Index>(generator.below(tensor.count));
        direction[static_cast<std::size_t>(k)] = 1;
        d = derivative(trial, tensor, direction, scale);
        direction[static_cast<std::size_t>(k)] = 0;
        if (!d.agrees) wrong = k;
      }
      if (wrong < 0) {
        for (double& v : direction) v = normal();
        double norm = 0;
        for (double g : tensor.gradient) norm += g * g;
        norm = std::sqrt(norm);
        d = derivative(trial, tensor, direction, norm);
        if (d.agrees) continue;
        wrong = locate(trial, tensor, direction, norm, d);
      }
      const std::string at = wrong < 0 ? law + " along a random direction" : place(law, wrong);
      fail(law, at + ": analytic " + number(d.analytic) + ", central difference " + number(d.numeric));
    }
  }

  struct Derivative {
    double analytic = 0;
    double numeric = 0;
    bool agrees = false;
  };

  /// Compares both derivatives along a direction. A kink (relu, abs) within the reach of a step disturbs a difference
  /// but not one of a much smaller step, whereas a wrong gradient is wrong at every step.
  Derivative derivative(Trial& trial, Trial::Tensor& tensor, const std::vector<double>& direction, double scale) {
    Derivative best;
    double least = std::numeric_limits<double>::infinity();
    double analytic = 0;
    for (std::size_t k = 0; k < direction.size(); ++k) analytic += tensor.gradient[k] * direction[k];
    ++report_.comparisons;
    for (double step : {1e-3, 1e-4, 1e-5, 1e-6}) {
      const Trial::Derivative found = trial.difference(tensor, direction, step);
      const double error = std::abs(found.value - analytic);
      if (error <= options_.tolerance * scale + found.noise) return {analytic, found.value, true};
      if (!(error >= least)) {
        least = error;
        best = {analytic, found.value, false};
      }
    }
    return best;
  }

  /// The coordinate whose derivative is wrong, given that the one along `direction` is, by halving; -1 if the error
  /// falls below the tolerance on the way.
  Index locate(Trial& trial, Trial::Tensor& tensor, std::vector<double>& direction, double scale, Derivative& d) {
    std::size_t begin = 0;
    std::size_t end = direction.size();
    const auto wrong_within = [&](std::size_t first, std::size_t last) {
      std::vector<double> part(direction.size(), 0.0);
      for (std::size_t k = first; k < last; ++k) part[k] = last - first == 1 ? 1.0 : direction[k];
      const Derivative found = derivative(trial, tensor, part, scale);
      if (!found.agrees) d = found;
      return !found.agrees;
    };
    while (end - begin > 1) {
      const std::size_t middle = begin + (end - begin) / 2;
      if (wrong_within(begin, middle))
        end = middle;
      else if (wrong_within(middle, end))
        begin = middle;
      else
        return -1;
    }
    return static_cast<Index>(begin);
  }

  const cpu::Block<double>& block_;
  const CheckOptions& options_;
  Report& report_;
  Shape shape_;
  std::set<std::string> broken_;
};

}  // namespace mad::testing
