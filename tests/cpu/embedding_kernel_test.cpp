// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/embedding.hpp>
#include <mad/train/safetensors.hpp>

#include "catch.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using mad::Shape;

namespace {

template <class T>
void check(Index batch, Index length, Index vocabulary, Index width, Index gap) {
  CAPTURE(sizeof(T), batch, length, vocabulary, width, gap);
  const Shape shape{.batch = batch, .length = length, .max_length = length};
  const Index stride = width + gap;
  std::mt19937 generator(3);
  std::normal_distribution<double> normal;
  std::vector<int> ids;
  for (Index i = 0; i < shape.tokens(); ++i) {
    ids.push_back(static_cast<int>(generator() % static_cast<unsigned>(vocabulary)));
  }
  std::vector<T> table(static_cast<std::size_t>(vocabulary * stride)), d_table(table.size());
  std::vector<T> out(static_cast<std::size_t>(shape.tokens() * stride), T(-7)), d_out(out.size());
  for (T& value : table) value = static_cast<T>(normal(generator));
  for (T& value : d_table) value = static_cast<T>(normal(generator));
  for (T& value : d_out) value = static_cast<T>(normal(generator));

  std::vector<T> expected_out = out;
  std::vector<double> expected_d_table(d_table.begin(), d_table.end());
  for (Index i = 0; i < shape.tokens(); ++i) {
    for (Index c = 0; c < width; ++c) {
      const auto from = static_cast<std::size_t>(ids[static_cast<std::size_t>(i)] * stride + c);
      const auto to = static_cast<std::size_t>(i * stride + c);
      expected_out[to] = table[from];
      expected_d_table[from] += static_cast<double>(d_out[to]);
    }
  }
  mad::cpu::embedding_forward<T>(shape, ids.data(), {table.data(), stride}, vocabulary, width, {out.data(), stride});
  mad::cpu::embedding_backward<T>(shape, ids.data(), {d_out.data(), stride}, vocabulary, width,
                                  {d_table.data(), stride});
  CHECK(out == expected_out);
  double worst = 0;
  for (std::size_t i = 0; i < d_table.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(d_table[i]) - expected_d_table[i]));
  }
  CHECK(worst < (sizeof(T) == 4 ? 1e-4 : 1e-12));
}

}  // namespace

TEST_CASE("embedding gathers rows and adds their gradients") {
  check<float>(1, 1, 1, 1, 0);
  check<float>(2, 7, 5, 17, 3);
  check<double>(3, 64, 9, 128, 0);
  check<float>(2, 128, 8192, 16, 1);
  check<double>(1, 33, 2, 5, 2);
}

TEST_CASE("an id outside the vocabulary is an error that says where, and nothing is written") {
  const Shape shape{.batch = 2, .length = 3, .max_length = 8};
  std::vector<float> table(8, 1.0f), out(12, 5.0f), d_table(8, 5.0f);
  for (const int wrong : {4, -1, -100, 70000}) {
    const std::vector<int> ids{0, 1, 2, 3, wrong, 0};
    CAPTURE(wrong);
    auto check_message = [&](auto&& call) {
      try {
        call();
        FAIL("no error");
      } catch (const mad::Error& error) {
        const std::string text = error.what();
        CHECK_THAT(text, ContainsSubstring("row 11, column 1 is " + std::to_string(wrong)));
        CHECK_THAT(text, ContainsSubstring("from 0 to 3"));
        CHECK_THAT(text, ContainsSubstring("vocabulary size 4"));
      }
    };
    check_message([&] {
      mad::cpu::embedding_forward<float>(shape, ids.data(), {table.data(), 2}, 4, 2, {out.data(), 2}, 10);
    });
    check_message([&] {
      mad::cpu::embedding_backward<float>(shape, ids.data(), {out.data(), 2}, 4, 2, {d_table.data(), 2}, 10);
    });
    CHECK(out == std::vector<float>(12, 5.0f));
    CHECK(d_table == std::vector<float>(8, 5.0f));
  }
}

TEST_CASE("the embedding's gradient agrees with the reference") {
  // The layer above it: LayerNorm, then a linear map to the vocabulary; its gradient by the definition.
  const auto file = mad::train::Safetensors::read(MAD_GOLDEN_DIR "/layers/embed-unembed_layernorm_v16_d32.safetensors");
  const Index rows = 14, width = 32, vocabulary = 16;
  const Shape shape{.batch = 2, .length = 7, .max_length = 7};
  std::vector<int> ids;
  for (const std::int64_t id : file.values<std::int64_t>("input")) ids.push_back(static_cast<int>(id));
  const auto table = file.values<double>("param.token_embeds.weight"),
             norm = file.values<double>("param.unembed.0.weight"),
             norm_bias = file.values<double>("param.unembed.0.bias"),
             head = file.values<double>("param.unembed.1.weight"),
             head_bias = file.values<double>("param.unembed.1.bias"), d_logits = file.values<double>("grad_output"),
             logits = file.values<double>("output"), expected = file.values<double>("grad.token_embeds.weight");
  std::vector<double> x(static_cast<std::size_t>(rows * width)), d_x(x.size()), d_table(table.size());
  mad::cpu::embedding_forward<double>(shape, ids.data(), {table.data(), width}, vocabulary, width, {x.data(), width});
  for (std::size_t r = 0; r < 14; ++r) {
    const double* row = x.data() + r * 32;
    double mean = 0, variance = 0, d_mean = 0, d_slope = 0, g[32], normal[32];
    for (int i = 0; i < 32; ++i) mean += row[i] / 32;
    for (int i = 0; i < 32; ++i) variance += (row[i] - mean) * (row[i] - mean) / 32;
    for (std::size_t i = 0; i < 32; ++i) {
      normal[i] = (row[i] - mean) / std::sqrt(variance + 1e-5);
      g[i] = 0;
      for (std::size_t o = 0; o < 16; ++o) g[i] += d_logits[r * 16 + o] * head[o * 32 + i] * norm[i];
      d_mean += g[i] / 32;
      d_slope += g[i] * normal[i] / 32;
    }
    for (std::size_t o = 0; o < 16; ++o) {
      double logit = head_bias[o];
      for (std::size_t i = 0; i < 32; ++i) logit += head[o * 32 + i] * (normal[i] * norm[i] + norm_bias[i]);
      CHECK(std::abs(logit - logits[r * 16 + o]) < 1e-11);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      d_x[r * 32 + i] = (g[i] - d_mean - normal[i] * d_slope) / std::sqrt(variance + 1e-5);
    }
  }
  mad::cpu::embedding_backward<double>(shape, ids.data(), {d_x.data(), width}, vocabulary, width,
                                       {d_table.data(), width});
  for (std::size_t i = 0; i < d_table.size(); ++i) CHECK(std::abs(d_table[i] - expected[i]) < 1e-11);
}
