// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/cross_entropy.hpp>
#include <mad/train/safetensors.hpp>

#include "catch.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using mad::View;
using mad::cpu::cross_entropy;
using mad::cpu::CrossEntropyOutputs;
using mad::cpu::CrossEntropySum;

namespace {

template <class T>
struct Problem {
  Problem(Index rows_, Index vocabulary_, Index gap, double spread)
      : rows(rows_), vocabulary(vocabulary_), stride(vocabulary_ + gap) {
    std::mt19937 generator(static_cast<unsigned>(rows + vocabulary));
    std::normal_distribution<double> normal(0, spread);
    logits.resize(static_cast<std::size_t>(rows * stride));
    for (T& logit : logits) logit = static_cast<T>(normal(generator));
    for (Index r = 0; r < rows; ++r) {
      // Every fourth row does not count, the first does.
      targets.push_back(r % 4 == 3 ? mad::cpu::ignored_target
                                   : static_cast<int>(generator() % static_cast<unsigned>(vocabulary)));
    }
  }
  T logit(Index r, Index c) const { return logits[static_cast<std::size_t>(r * stride + c)]; }
  View<const T> view() const { return {logits.data(), stride}; }

  Index rows, vocabulary, stride;
  std::vector<T> logits;
  std::vector<int> targets;
};

template <class T>
void check_against_definition(Index rows, Index vocabulary, Index gap, double spread) {
  CAPTURE(sizeof(T), rows, vocabulary, gap, spread);
  const Problem<T> problem(rows, vocabulary, gap, spread);
  const double bound = sizeof(T) == 4 ? 2e-6 : 1e-13, factor = 0.37;
  std::vector<T> gradient(problem.logits.size(), T(5)), losses(static_cast<std::size_t>(rows), T(5));
  std::vector<int> predictions(static_cast<std::size_t>(rows), -1);
  const CrossEntropySum sum = cross_entropy<T>(problem.view(), problem.targets.data(), rows, vocabulary,
                                               {.d_logits = {gradient.data(), problem.stride},
                                                .factor = factor,
                                                .negative_log_likelihood = losses.data(),
                                                .prediction = predictions.data()});
  double expected_sum = 0;
  Index expected_count = 0;
  for (Index r = 0; r < rows; ++r) {
    const int target = problem.targets[static_cast<std::size_t>(r)];
    double total = 0, largest = -1e300;
    Index best = 0;
    for (Index c = 0; c < vocabulary; ++c) {
      const double logit = static_cast<double>(problem.logit(r, c));
      if (logit > largest) largest = logit, best = c;
    }
    for (Index c = 0; c < vocabulary; ++c) total += std::exp(static_cast<double>(problem.logit(r, c)) - largest);
    const bool counts = target >= 0;
    const double loss = counts ? std::log(total) + largest - static_cast<double>(problem.logit(r, target)) : 0.0;
    expected_sum += loss;
    expected_count += counts;
    CHECK(predictions[static_cast<std::size_t>(r)] == best);
    CHECK(std::abs(static_cast<double>(losses[static_cast<std::size_t>(r)]) - loss) <= bound * (1 + loss));
    double worst = 0;
    for (Index c = 0; c < vocabulary; ++c) {
      const double p = std::exp(static_cast<double>(problem.logit(r, c)) - largest) / total;
      const double expected = counts ? factor * (p - (c == target)) : 0.0;
      const double found = static_cast<double>(gradient[static_cast<std::size_t>(r * problem.stride + c)]);
      const double difference = std::abs(found - expected);
      if (!(difference <= worst)) worst = std::isnan(difference) ? INFINITY : difference;
    }
    CHECK(worst <= bound);
    for (Index c = vocabulary; c < problem.stride; ++c) {
      CHECK(gradient[static_cast<std::size_t>(r * problem.stride + c)] == T(5));
    }
  }
  CHECK(sum.count == expected_count);
  CHECK(std::abs(sum.sum - expected_sum) <= bound * static_cast<double>(rows) * (1 + expected_sum));

  // Without outputs, and in place: the same.
  const CrossEntropySum alone = cross_entropy<T>(problem.view(), problem.targets.data(), rows, vocabulary);
  CHECK(alone.count == sum.count);
  CHECK(std::abs(alone.sum - sum.sum) <= bound * (1 + std::abs(sum.sum)));
  std::vector<T> in_place = problem.logits;
  const View<T> view{in_place.data(), problem.stride};
  cross_entropy<T>(view, problem.targets.data(), rows, vocabulary, {.d_logits = view, .factor = factor});
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < vocabulary; ++c) {
      const auto at = static_cast<std::size_t>(r * problem.stride + c);
      CHECK(in_place[at] == gradient[at]);
    }
  }
}

}  // namespace

TEST_CASE("cross entropy agrees with its definition") {
  for (const Index vocabulary : {1, 2, 15, 16, 17, 63, 64, 65, 128, 200}) {
    check_against_definition<float>(9, vocabulary, 0, 1.0);
    check_against_definition<float>(5, vocabulary, 3, 30.0);
    check_against_definition<double>(6, vocabulary, 1, 5.0);
  }
  check_against_definition<float>(3, 8192, 0, 2.0);
  check_against_definition<double>(3, 8192, 5, 2.0);
  check_against_definition<float>(1, 8191, 0, 2.0);
}

TEST_CASE("the first of several largest logits is the prediction") {
  for (const Index vocabulary : {5, 64, 300}) {
    for (const Index first : {Index{0}, vocabulary / 2, vocabulary - 1}) {
      std::vector<float> logits(static_cast<std::size_t>(vocabulary), -1.0f);
      for (Index c = first; c < vocabulary; c += 2) logits[static_cast<std::size_t>(c)] = 2.5f;
      const int target = mad::cpu::ignored_target;
      int prediction = -1;
      const CrossEntropySum sum =
          cross_entropy<float>({logits.data(), vocabulary}, &target, 1, vocabulary, {.prediction = &prediction});
      CAPTURE(vocabulary, first);
      CHECK(prediction == first);
      CHECK(sum.count == 0);
      CHECK(sum.sum == 0.0);
    }
  }
}

TEST_CASE("logits that an exponential cannot hold give the right loss") {
  const std::vector<float> logits{1000.0f, 990.0f, -1000.0f};
  const int targets[] = {1};
  float gradient[3];
  const CrossEntropySum sum =
      cross_entropy<float>({logits.data(), 3}, targets, 1, 3, {.d_logits = {gradient, 3}, .factor = 1.0});
  CHECK(sum.sum == Approx(10.0 + std::log1p(std::exp(-10.0))).epsilon(1e-7));
  CHECK(gradient[0] == Approx(1 / (1 + std::exp(-10.0))).epsilon(1e-6));
  CHECK(std::abs(gradient[2]) < 1e-30f);
}

TEST_CASE("a logit that is not a number makes the loss not a number") {
  for (const Index place : {0, 7, 39}) {
    std::vector<float> logits(40, 0.5f);
    logits[static_cast<std::size_t>(place)] = std::numeric_limits<float>::quiet_NaN();
    const int target = 3;
    int prediction = -1;
    const CrossEntropySum sum = cross_entropy<float>({logits.data(), 40}, &target, 1, 40, {.prediction = &prediction});
    CAPTURE(place);
    CHECK(std::isnan(sum.sum));
    CHECK((prediction >= 0 && prediction < 40));
  }
}

TEST_CASE("a target outside the vocabulary is an error that names it, and nothing is written") {
  std::vector<float> logits(12, 0.0f), gradient(12, 5.0f);
  for (const int wrong : {4, -1, -99, 1000}) {
    const int targets[] = {0, mad::cpu::ignored_target, wrong};
    CAPTURE(wrong);
    try {
      cross_entropy<float>({logits.data(), 4}, targets, 3, 4, {.d_logits = {gradient.data(), 4}});
      FAIL("no error");
    } catch (const mad::Error& error) {
      const std::string text = error.what();
      CHECK_THAT(text, ContainsSubstring("row 2 is " + std::to_string(wrong)));
      CHECK_THAT(text, ContainsSubstring("from 0 to 3"));
    }
    CHECK(gradient == std::vector<float>(12, 5.0f));
  }
}

TEST_CASE("cross entropy agrees with the reference's metrics and losses") {
  for (const std::string name : {"metrics_dense_v16", "metrics_sparse_v32"}) {
    CAPTURE(name);
    const auto file = mad::train::Safetensors::read(std::string(MAD_GOLDEN_DIR "/layers/") + name + ".safetensors");
    const Index rows = file.shape("logits")[0] * file.shape("logits")[1], vocabulary = file.shape("logits")[2];
    const auto logits = file.values<double>("logits");
    const auto wide_targets = file.values<std::int64_t>("targets");
    const auto expected = file.values<std::int64_t>("predictions");
    std::vector<int> targets, predictions(static_cast<std::size_t>(rows));
    for (const std::int64_t target : wide_targets) targets.push_back(static_cast<int>(target));
    const CrossEntropySum sum = cross_entropy<double>({logits.data(), vocabulary}, targets.data(), rows, vocabulary,
                                                      {.prediction = predictions.data()});
    CHECK(std::abs(sum.sum / static_cast<double>(sum.count) - file.values<double>("loss")[0]) < 1e-12);
    for (std::size_t r = 0; r < predictions.size(); ++r) CHECK(predictions[r] == expected[r]);
  }
}
