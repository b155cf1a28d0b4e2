// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/models/sampling.hpp>

#include <catch.hpp>
#include <cmath>
#include <vector>

namespace mad {

namespace {

/// Share of each token among many draws.
std::vector<double> shares(const std::vector<double>& logits, const Sampling& sampling) {
  constexpr int draws = 40000;
  random::Generator generator(sampling.seed);
  std::vector<double> result(logits.size());
  for (int i = 0; i < draws; ++i)
    result[static_cast<std::size_t>(sample(logits.data(), static_cast<Index>(logits.size()), sampling, generator))] +=
        1.0 / draws;
  return result;
}

}  // namespace

TEST_CASE("tokens are drawn with the probabilities of a softmax") {
  // exp(logit) is 1, 2, 4, 1: an eighth, a quarter, a half, an eighth.
  const std::vector<double> logits{100, 100 + std::log(2), 100 + std::log(4), 100};
  const auto at_one = shares(logits, {.temperature = 1, .seed = 1});
  const double expected[] = {0.125, 0.25, 0.5, 0.125};
  for (std::size_t v = 0; v < 4; ++v) CHECK(at_one[v] == Approx(expected[v]).margin(0.01));
  // Half the temperature squares the ratios: 1, 4, 16, 1.
  const auto at_half = shares(logits, {.temperature = 0.5, .seed = 2});
  const double squared[] = {1 / 22.0, 4 / 22.0, 16 / 22.0, 1 / 22.0};
  for (std::size_t v = 0; v < 4; ++v) CHECK(at_half[v] == Approx(squared[v]).margin(0.01));
  // Of the three largest, the first of the two equal ones.
  const auto of_three = shares(logits, {.temperature = 1, .top_k = 3, .seed = 3});
  const double kept[] = {1 / 7.0, 2 / 7.0, 4 / 7.0, 0};
  for (std::size_t v = 0; v < 4; ++v) CHECK(of_three[v] == Approx(kept[v]).margin(0.01));
  CHECK(shares(logits, {.temperature = 1, .top_k = 9, .seed = 1}) == at_one);
}

TEST_CASE("the likeliest token is taken at temperature 0, the first of equal ones") {
  random::Generator generator(1);
  const auto before = generator.state();
  const std::vector<float> logits{-1, 3, 0, 3};
  CHECK(sample(logits.data(), 4, {}, generator) == 1);
  CHECK(generator.state() == before);
  CHECK(sample(logits.data(), 4, {.temperature = 5, .top_k = 1}, generator) == 1);
}

TEST_CASE("sampling refuses what makes no sense") {
  CHECK_THROWS_AS((Sampling{.temperature = -1}.check()), UsageError);
  CHECK_THROWS_AS((Sampling{.temperature = NAN}.check()), UsageError);
  CHECK_THROWS_AS((Sampling{.top_k = -1}.check()), UsageError);
  random::Generator generator(1);
  const std::vector<float> logits{1, NAN};
  CHECK_THROWS_AS(sample(logits.data(), 2, {}, generator), Error);
}

}  // namespace mad
