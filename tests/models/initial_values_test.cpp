// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/architecture.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/implicit_filter.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/models/initial_values.hpp>
#include <mad/train/safetensors.hpp>

#include <catch.hpp>
#include <cmath>
#include <string>
#include <vector>

namespace mad {

namespace {

train::Safetensors fixture(const std::string& name) {
  return train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/" + name + ".safetensors");
}

/// A filter of 24 channels with the fixture's options.
struct FilterOnly {
  static constexpr std::string_view name = "filter";
  static constexpr Value forward(Value x) { return x * implicit_filter(x, 24, FilterOptions{.order = 4}); }
};

void check_start(const Graph& graph, const std::string& parameter, Index max_length,
                 const std::vector<double>& expected) {
  INFO("start of " << parameter);
  for (int i = 0; i < graph.parameter_count; ++i) {
    const Parameter& p = graph.parameters[i];
    if (p.name.view() != parameter) continue;
    std::vector<double> values(static_cast<std::size_t>(p.count(max_length)));
    random::Generator generator(1);
    fill_initial(p, p.initial, max_length, generator, values);
    REQUIRE(values.size() == expected.size());
    for (std::size_t k = 0; k < values.size(); ++k) CHECK(std::abs(values[k] - expected[k]) < 1e-12);
    return;
  }
  FAIL("no such parameter");
}

struct Moments {
  double mean = 0;
  double deviation = 0;
  double largest = 0;
};

Moments moments(const float* values, Index count) {
  Moments m;
  for (Index i = 0; i < count; ++i) m.mean += static_cast<double>(values[i]) / static_cast<double>(count);
  for (Index i = 0; i < count; ++i) {
    const double d = static_cast<double>(values[i]) - m.mean;
    m.deviation += d * d / static_cast<double>(count);
    m.largest = std::max(m.largest, std::abs(static_cast<double>(values[i])));
  }
  m.deviation = std::sqrt(m.deviation);
  return m;
}

/// The initial parameters of a model by name.
class Initialised {
public:
  template <class M>
  static Initialised of(const ModelOptions& o) {
    Initialised i;
    const auto a = cpu::architecture<M, float>();
    i.layout_ = make_layout(a, o);
    i.parameters_.resize(static_cast<std::size_t>(i.layout_.size));
    std::vector<float> constants(static_cast<std::size_t>(i.layout_.constants) + 1);
    initialize(a, o, i.layout_, 7, i.parameters_.data(), constants.data());
    return i;
  }
  Moments operator[](const std::string& name) const {
    for (const ParameterInfo& p : layout_.infos)
      if (p.name == name) return moments(parameters_.data() + p.offset, p.size);
    FAIL("no parameter " << name);
    return {};
  }

private:
  ParameterLayout layout_;
  std::vector<float> parameters_;
};

}  // namespace

TEST_CASE("values that involve no random draw start as in the reference") {
  const auto filter = fixture("init_hyena-filter_L24");
  constexpr Graph f = build_graph<FilterOnly, 24>(all_passes);
  for (const char* name : {"pos_emb.z", "pos_emb.t", "modulation.deltas", "implicit_filter.1.freq"})
    check_start(f, name, 24, filter.values<double>(std::string("value.") + name));
  const auto mamba = fixture("init_mamba_d32");
  constexpr Graph m = build_graph<Mamba, 32>(all_passes);
  for (const char* name : {"A_log", "D"}) check_start(m, name, 64, mamba.values<double>(std::string("value.") + name));

  const auto table = fixture("init_posemb-sincos_n24_d16").values<double>("value.table");
  const auto ours = sinusoidal_table<double>(24, 16);
  REQUIRE(ours.size() == table.size());
  for (std::size_t i = 0; i < table.size(); ++i) CHECK(std::abs(ours[i] - table[i]) < 1e-12);
}

TEST_CASE("Mamba's time steps start between dt_min and dt_max") {
  constexpr Graph g = build_graph<Mamba, 128>(all_passes);
  for (int i = 0; i < g.parameter_count; ++i) {
    if (g.parameters[i].name.view() != "dt_proj.bias") continue;
    std::vector<double> bias(256);
    random::Generator generator(3);
    fill_initial(g.parameters[i], g.parameters[i].initial, 1, generator, bias);
    for (const double b : bias) {
      const double dt = std::log1p(std::exp(b));
      CHECK(dt > 0.001 * (1 - 1e-9));
      CHECK(dt < 0.1 * (1 + 1e-9));
    }
  }
}

TEST_CASE("a language model zeroes the biases of linear maps, an auto-encoder redraws the weights too") {
  using Net = Stack<Attn, Mamba>;
  const ModelOptions o{.vocab_size = 64, .max_length = 16};
  const auto lm = Initialised::of<LanguageModel<Net, 64>>(o);
  CHECK(lm["model.0.1.Wqkv.bias"].largest == 0);
  CHECK(lm["unembed.1.bias"].largest == 0);
  CHECK(lm["model.1.1.dt_proj.bias"].largest > 1);   // Mamba's own, kept
  CHECK(lm["model.1.1.conv1d.bias"].largest > 0.1);  // no linear map
  CHECK(lm["token_embeds.weight"].deviation == Approx(0.02).epsilon(0.05));
  CHECK(lm["model.0.1.Wqkv.weight"].deviation == Approx(1 / std::sqrt(3 * 64.0)).epsilon(0.05));
  CHECK(lm["model.0.1.Wqkv.weight"].largest <= 1 / 8.0);
  CHECK(lm["model.0.0.weight"].mean == 1);

  const auto ae = Initialised::of<AutoEncoder<Net, 64>>(o);
  CHECK(ae["encoder.0.1.Wqkv.weight"].deviation == Approx(0.02).epsilon(0.05));
  CHECK(ae["encoder.1.1.dt_proj.weight"].deviation == Approx(0.02).epsilon(0.2));
  CHECK(ae["encoder.1.1.dt_proj.bias"].largest == 0);
  CHECK(ae["unembed.1.weight"].deviation == Approx(0.02).epsilon(0.05));
  CHECK(ae["decoder.4.bias"].largest == 0);
}

TEST_CASE("the same seed gives the same start, another seed another") {
  const auto a = cpu::architecture<LanguageModel<Attn, 64>, float>();
  const ModelOptions o{.vocab_size = 16, .max_length = 16};
  const auto layout = make_layout(a, o);
  std::vector<float> first(static_cast<std::size_t>(layout.size)), second(first), third(first);
  float none = 0;
  initialize(a, o, layout, 7, first.data(), &none);
  initialize(a, o, layout, 7, second.data(), &none);
  initialize(a, o, layout, 8, third.data(), &none);
  CHECK(first == second);
  CHECK(first != third);
}

}  // namespace mad
