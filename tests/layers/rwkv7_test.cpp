// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "plain.hpp"
#include "start.hpp"

#include <mad/layers/rwkv7.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using Time = RWKV7TimeMixerOptions;
using Channel = RWKV7ChannelMixerOptions;
namespace plain = testing::plain;

/// Heads that are no whole registers, ranks that differ.
using Small = RWKV7TimeMixerLayer<Time{.head_dim = 5, .decay_rank = 3, .rate_rank = 2, .gate_rank = 12}>;

constexpr Graph time_at_128 = build_graph<RWKV7TimeMixer, 128>(all_passes);
constexpr Graph channel_at_128 = build_graph<RWKV7ChannelMixer, 128>(all_passes);
// r, k, v and output; three low-rank maps of rank 32; 6 mixtures, w0, a0, k_k, k_a, r_k, and the norm
static_assert(parameter_count(time_at_128, 1) == 4 * 128 * 128 + 3 * 2 * 32 * 128 + (6 + 5 + 2) * 128);
static_assert(parameter_count(channel_at_128, 1) == 2 * 4 * 128 * 128 + 128);
static_assert(state_size(time_at_128, 1000) == 2048 + 128);  // states, and the last token
static_assert(state_size(channel_at_128, 1000) == 128);
static_assert(RWKV7TimeMixer::name == "rwkv7-time-mixer" && RWKV7TimeMixer::shorthand == "R7t");
static_assert(RWKV7ChannelMixer::name == "rwkv7-channel-mixer" && RWKV7ChannelMixer::shorthand == "R7c");
// The authors' 64 (decay) and 128 (gate) at width 768 and 96 and 256 at 2048, in blocks of 32.
static_assert(rwkv7::decay_rank(128) == 32 && rwkv7::decay_rank(768) == 64 && rwkv7::decay_rank(2048) == 96);
static_assert(rwkv7::gate_rank(128) == 32 && rwkv7::gate_rank(768) == 128 && rwkv7::gate_rank(2048) == 256);

/// x W for W of shape (in, out).
plain::Row matmul(const plain::Row& x, const plain::Row& weight) {
  const std::size_t width = weight.size() / x.size();
  plain::Row y(width, 0.0);
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t o = 0; o < width; ++o) y[o] += x[i] * weight[i * width + o];
  return y;
}

plain::Row mapped(plain::Row x, double (*f)(double)) {
  for (double& v : x) v = f(v);
  return x;
}

plain::Row mixed(const plain::Row& x, const plain::Row& before, const plain::Row& share) {
  plain::Row y = x;
  for (std::size_t c = 0; c < x.size(); ++c) y[c] += (before[c] - x[c]) * share[c];
  return y;
}

plain::Rows mix_time(const plain::Parameters& p, const plain::Rows& tokens, std::size_t d) {
  const std::size_t D = tokens[0].size();
  const auto tanh = [](double v) { return std::tanh(v); };
  plain::Row before(D, 0.0), S(D * d, 0.0);  // S: (D, d), row = value channel
  plain::Rows out;
  for (const plain::Row& x : tokens) {
    const auto at = [&](const char* name) { return mixed(x, before, p[name]); };
    const plain::Row r = plain::linear(at("x_r"), p["receptance.weight"]);
    const plain::Row key = plain::linear(at("x_k"), p["key.weight"]);
    const plain::Row v = plain::linear(at("x_v"), p["value.weight"]);
    const plain::Row w_raw = matmul(mapped(matmul(at("x_w"), p["w1"]), tanh), p["w2"]);
    const plain::Row a_raw = matmul(matmul(at("x_a"), p["a1"]), p["a2"]);
    const plain::Row g = matmul(mapped(matmul(at("x_g"), p["g1"]), plain::sigmoid), p["g2"]);
    const plain::Row w0 = p["w0"], a0 = p["a0"], k_k = p["k_k"], k_a = p["k_a"], r_k = p["r_k"];
    const plain::Row weight = p["ln_x.weight"], bias = p["ln_x.bias"];
    plain::Row w(D), a(D), k(D), kk(D), y(D);
    for (std::size_t c = 0; c < D; ++c) {
      w[c] = std::exp(-std::exp(-0.5) * plain::sigmoid(w_raw[c] + w0[c]));
      a[c] = plain::sigmoid(a_raw[c] + a0[c]);
      k[c] = key[c] * (1 + (a[c] - 1) * k_a[c]);
      kk[c] = key[c] * k_k[c];
    }
    for (std::size_t h = 0; h < D; h += d) {
      double norm = 0, bonus = 0, mean = 0, variance = 0;
      for (std::size_t c = h; c < h + d; ++c) {
        norm += kk[c] * kk[c];
        bonus += r[c] * k[c] * r_k[c];
      }
      norm = std::max(std::sqrt(norm), 1e-12);
      plain::Row o(d, 0.0);
      for (std::size_t j = 0; j < d; ++j) {
        double* row = S.data() + (h + j) * d;
        double read = 0;
        for (std::size_t i = 0; i < d; ++i) read += row[i] * kk[h + i] / norm;
        for (std::size_t i = 0; i < d; ++i) {
          row[i] = row[i] * w[h + i] - read * kk[h + i] / norm * a[h + i] + v[h + j] * k[h + i];
          o[j] += row[i] * r[h + i];
        }
        mean += o[j] / static_cast<double>(d);
      }
      for (const double value : o) variance += (value - mean) * (value - mean) / static_cast<double>(d);
      for (std::size_t j = 0; j < d; ++j) {
        const std::size_t c = h + j;
        const double normed = (o[j] - mean) / std::sqrt(variance + 1e-5 * static_cast<double>(d));
        y[c] = (normed * weight[c] + bias[c] + bonus * v[c]) * g[c];
      }
    }
    out.push_back(plain::linear(y, p["output.weight"]));
    before = x;
  }
  return out;
}

plain::Rows mix_channels(const plain::Parameters& p, const plain::Rows& tokens) {
  plain::Row before(tokens[0].size(), 0.0);
  plain::Rows out;
  for (const plain::Row& x : tokens) {
    plain::Row hidden = plain::linear(mixed(x, before, p["x_k"]), p["key.weight"]);
    for (double& v : hidden) v = v > 0 ? v * v : 0;
    out.push_back(plain::linear(hidden, p["value.weight"]));
    before = x;
  }
  return out;
}

}  // namespace

TEST_CASE("the time mixer of RWKV-7 is the loop of its formulas") {
  plain::check<RWKV7TimeMixer, 32>(23, [](const auto& p, const auto& x) { return mix_time(p, x, 16); });
  plain::check<Small, 10>(23, [](const auto& p, const auto& x) { return mix_time(p, x, 5); });
}

TEST_CASE("the channel mixer of RWKV-7 is the loop of its formulas") {
  plain::check<RWKV7ChannelMixer, 6>(3, [](const auto& p, const auto& x) { return mix_channels(p, x); });
}

TEST_CASE("RWKV-7 starts as its authors' code does") {
  // The third of four layers: rho = 2/3, sigma = 1/2.
  constexpr Graph g =
      build_graph<RWKV7TimeMixerLayer<Time{.head_dim = 8, .n_layer = 4, .layer_id = 2}>, 16>(all_passes);
  const auto start = [&](const char* name, std::size_t channel) { return testing::start_of(g, name).at(channel); };
  CHECK(start("x_r", 4) == Approx(1 - std::pow(0.25, 0.1)));
  CHECK(start("x_g", 4) == Approx(1 - std::pow(0.25, 0.1)));
  CHECK(start("x_w", 4) == Approx(1 - std::pow(0.25, 0.45)));
  CHECK(start("x_a", 4) == Approx(1 - std::pow(0.25, 0.45)));
  CHECK(start("x_k", 4) == Approx(1 - std::pow(0.25, 0.35)));
  CHECK(start("x_v", 4) == Approx(1 - std::pow(0.25, 0.35)));
  const double z = (1 - 3.5) / 3.5;  // the second channel of the second head
  CHECK(start("w0", 9) == Approx(-6 + 6 * std::pow(9.0 / 15, 1 + std::pow(2.0 / 3, 0.3)) + 0.5 - 2.5 * z * z));
  CHECK(start("a0", 9) == Approx(-0.19 - 0.3 * z * z + 0.4 * (9.0 / 15 - 0.5)));
  CHECK(start("k_k", 9) == Approx(0.71 - 0.1 * (9.0 / 15 - 0.5)));
  CHECK(start("k_a", 9) == 1.02);
  CHECK(start("r_k", 9) == -0.04);
  CHECK(start("ln_x.weight", 9) == Approx(std::pow(0.75, 0.7)));
  for (const char* name : {"output.weight", "ln_x.bias", "w1", "a1", "g1"}) CHECK(start(name, 9) == 0);
  // The first and only one.
  constexpr Graph only = build_graph<RWKV7TimeMixer, 16>(all_passes);
  CHECK(testing::start_of(only, "x_w")[4] == Approx(1 - std::pow(0.25, 0.9)));
  CHECK(testing::start_of(only, "w0")[0] == Approx(-6 + 0.5 - 2.5));
  CHECK(testing::start_of(only, "ln_x.weight")[0] == 1);
  constexpr Graph channel = build_graph<RWKV7ChannelMixerLayer<Channel{.n_layer = 4, .layer_id = 2}>, 16>(all_passes);
  CHECK(testing::start_of(channel, "x_k")[4] == Approx(1 - std::pow(0.25, 1.0 / 16)));
  testing::check_range(testing::start_of(channel, "key.weight"), -0.125, 0.125);
  CHECK(testing::start_of(channel, "value.weight")[9] == 0);
}

TEST_CASE("The matrices of RWKV-7 start orthogonal") {
  constexpr Graph g =
      build_graph<RWKV7TimeMixerLayer<Time{.head_dim = 8, .decay_rank = 5, .gate_rank = 20}>, 16>(all_passes);
  const auto check = [&](const char* name, std::size_t rows, std::size_t columns, double gain) {
    INFO(name);
    const std::vector<double> m = testing::start_of(g, name);
    REQUIRE(m.size() == rows * columns);
    const bool wide = rows <= columns;
    const auto entry = [&](std::size_t v, std::size_t i) { return wide ? m[v * columns + i] : m[i * columns + v]; };
    for (std::size_t a = 0; a < std::min(rows, columns); ++a)
      for (std::size_t b = 0; b < std::min(rows, columns); ++b) {
        double inner = 0;
        for (std::size_t i = 0; i < std::max(rows, columns); ++i) inner += entry(a, i) * entry(b, i);
        CHECK(std::abs(inner - (a == b ? gain * gain : 0)) < 1e-12);
      }
  };
  check("receptance.weight", 16, 16, 1);
  check("key.weight", 16, 16, 0.1);
  check("value.weight", 16, 16, 1);
  check("w2", 5, 16, 0.1);
  check("g2", 20, 16, 0.1 * std::sqrt(20.0 / 16));
}

TEST_CASE("RWKV-7 is proved") {
  REQUIRE(testing::check_layer<Small, 10>());
  REQUIRE(testing::check_layer<RWKV7ChannelMixer, 6>());
}

}  // namespace mad
