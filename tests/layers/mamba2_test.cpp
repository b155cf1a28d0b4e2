// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "plain.hpp"
#include "start.hpp"

#include <mad/layers/mamba2.hpp>
#include <mad/models/stack.hpp>
#include <mad/testing/check_layer.hpp>

namespace mad {

namespace {

using O = Mamba2Options;
namespace plain = testing::plain;

constexpr Graph at_128 = build_graph<Mamba2, 128>(all_passes);
// in_proj, conv1d, per head A_log, D and dt_bias, norm, out_proj; 4 heads of width 64
static_assert(parameter_count(at_128, 1) == (512 + 16 + 4) * 128 + 272 * 5 + 3 * 4 + 256 + 256 * 128);
static_assert(state_size(at_128, 1000) == 2048 + 3 * 272);  // states, and the convolution's last inputs
static_assert(Mamba2::name == "mamba2" && Mamba2::shorthand == "Mb2");

struct Sizes {
  std::size_t state, head_width, groups, conv;
  double lowest = 0, highest = INFINITY;
};

/// S_t = exp(-dt_t exp(A_log)) S_{t-1} + dt_t x_t^T B_t,  y_t = S_t C_t + D x_t per head, then gate, norm, projection.
plain::Rows forward(const plain::Parameters& p, const plain::Rows& tokens, const Sizes& z) {
  const std::size_t heads = p["A_log"].size();
  const std::size_t inner = heads * z.head_width;
  const std::size_t mixed = inner + 2 * z.groups * z.state;
  const plain::Row taps = p["conv1d.weight"], shift = p["conv1d.bias"];
  const plain::Row dt_bias = p["dt_bias"], A_log = p["A_log"], D = p["D"];
  std::vector<double> S(inner * z.state, 0.0);
  plain::Rows before;  // what the convolution reads
  plain::Rows out;
  for (const plain::Row& token : tokens) {
    const plain::Row projected = plain::linear(token, p["in_proj.weight"]);
    const plain::Row gate = plain::columns(projected, 0, inner);
    before.push_back(plain::columns(projected, inner, mixed));
    plain::Row xBC = shift;
    for (std::size_t j = 0; j < z.conv && j < before.size(); ++j)
      for (std::size_t c = 0; c < mixed; ++c)
        xBC[c] += taps[c * z.conv + z.conv - 1 - j] * before[before.size() - 1 - j][c];
    for (double& v : xBC) v = plain::silu(v);
    plain::Row y(inner, 0.0);
    for (std::size_t h = 0; h < heads; ++h) {
      double dt = plain::softplus(projected[inner + mixed + h] + dt_bias[h]);
      dt = std::min(std::max(dt, z.lowest), z.highest);
      const std::size_t B = inner + h / (heads / z.groups) * z.state;
      const std::size_t C = B + z.groups * z.state;
      for (std::size_t c = h * z.head_width; c < (h + 1) * z.head_width; ++c) {
        for (std::size_t n = 0; n < z.state; ++n) {
          double& s = S[c * z.state + n];
          s = std::exp(-dt * std::exp(A_log[h])) * s + dt * xBC[c] * xBC[B + n];
          y[c] += s * xBC[C + n];
        }
        y[c] = (y[c] + D[h] * xBC[c]) * plain::silu(gate[c]);
      }
    }
    out.push_back(plain::linear(plain::rms_norm(y, inner / z.groups, p["norm.weight"], 1e-5), p["out_proj.weight"]));
  }
  return out;
}

}  // namespace

TEST_CASE("Mamba-2 is the loop of its formulas") {
  plain::check<Mamba2, 32>(8, [](const auto& p, const auto& x) { return forward(p, x, {8, 64, 1, 4}); });
  // Two groups of two heads, and time steps that are clamped on both sides.
  plain::check<Mamba2Layer<O{.state = 5,
                             .conv = 3,
                             .expand = 1,
                             .head_width = 3,
                             .groups = 2,
                             .dt_max = 1,
                             .dt_lowest = 0.03,
                             .dt_highest = 0.2}>,
               12>(8, [](const auto& p, const auto& x) {
    return forward(p, x, {5, 3, 2, 3, 0.03, 0.2});
  });
}

TEST_CASE("Mamba-2 starts with its rates and time steps in their ranges") {
  constexpr Graph g = build_graph<Mamba2Layer<O{.head_width = 1}>, 64>(all_passes);
  const std::vector<double> D = testing::start_of(g, "D");
  CHECK(D == std::vector<double>(128, 1.0));
  std::vector<double> rate = testing::start_of(g, "A_log");
  for (double& a : rate) a = std::exp(a);
  testing::check_range(rate, 1, 16);
  // Log-uniform: the logarithms fill their range evenly.
  std::vector<double> step = testing::start_of(g, "dt_bias");
  for (double& b : step) b = std::log(std::log1p(std::exp(b)));
  testing::check_range(step, std::log(0.001) - 1e-9, std::log(0.1) + 1e-9);
  CHECK(testing::start_of(g, "norm.weight") == std::vector<double>(128, 1.0));
  // No weight decay, and no backbone resets them: they are not biases of linear maps.
  int marked = 0;
  for (int i = 0; i < g.parameter_count; ++i) {
    const Parameter& p = g.parameters[i];
    if (p.name.view() != "A_log" && p.name.view() != "D" && p.name.view() != "dt_bias") continue;
    INFO(p.name.view());
    CHECK(!p.decay);
    CHECK(p.role == Role::other);
    ++marked;
  }
  CHECK(marked == 3);
}

TEST_CASE("Mamba-2 is proved") {
  REQUIRE(testing::check_layer<Mamba2Layer<O{.state = 3, .head_width = 4, .groups = 2}>, 8>());
}

TEST_CASE("Mamba-2 with biases and a range of time steps is proved") {
  REQUIRE(testing::check_layer<Mamba2Layer<O{.state = 2,
                                             .conv = 2,
                                             .expand = 1.5,
                                             .head_width = 3,
                                             .dt_max = 1,
                                             .dt_lowest = 0.03,
                                             .dt_highest = 0.2,
                                             .conv_bias = false,
                                             .bias = true}>,
                               6, testing::PlannerProof::none>());
}

}  // namespace mad
