// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/layers/attention.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/topologies.hpp>
#include <mad/testing/check_layer.hpp>

#include <catch.hpp>
#include <vector>

namespace mad::testing {

namespace {

struct Halve {
  static constexpr std::string_view name = "halve";
  static constexpr Value forward(Value x) { return x * 0.5; }
};
struct Square {
  static constexpr std::string_view name = "square";
  static constexpr Value forward(Value x) { return square(x); }
};

/// Output of a layer without parameters other than `values`, in their order, for one token.
template <class L>
std::vector<double> output(const std::vector<double>& x, const std::vector<double>& values) {
  cpu::SingleLayer<double> layer(cpu::block<Lowered<L, 2>, double>, {1, 1, 1});
  std::copy(values.begin(), values.end(), layer.parameter(0));
  std::vector<double> y(x.size());
  layer.forward(x.data(), y.data());
  return y;
}

}  // namespace

TEST_CASE("stripes put the rare item last in every period") {
  using Deep = Stack<Mamba, SwiGLU>;
  using Net = Repeat<2, Striped<Deep, Attn, 3>>;
  STATIC_REQUIRE(std::is_same_v<LayersOf<Net>, LayerList<Mamba, SwiGLU, Mamba, SwiGLU, Attn,  //
                                                         Mamba, SwiGLU, Mamba, SwiGLU, Attn>>);
  STATIC_REQUIRE(std::is_same_v<LayersOf<Striped<Mamba, Attn, 1>>, LayerList<Attn>>);
  STATIC_REQUIRE(Striped<Deep, Attn, 3>::depth == 5);
  STATIC_REQUIRE(LanguageModel<Striped<Mamba, Attn, 2>, 16>::depth == 2);
}

TEST_CASE("parallel branches are summed") {
  STATIC_REQUIRE(Parallel<Attn, Mamba>::name == "mh-attention+mamba");
  STATIC_REQUIRE(Parallel<Attn, Mamba>::shorthand == "mA+Mb");
  CHECK(output<Parallel<Halve, Square, Halve>>({3, -1}, {}) == std::vector<double>{12, 0});
  using Both = Parallel<Attn, Mlp>;
  STATIC_REQUIRE(parameter_count(Lowered<Both, 16>::graph, 1) ==
                 parameter_count(Lowered<Attn, 16>::graph, 1) + parameter_count(Lowered<Mlp, 16>::graph, 1));
  CHECK(check_layer<Both>());
}

TEST_CASE("experts are weighed by the router") {
  using Two = MixtureOfExperts<2, Routing::intended, Halve, Square>;
  STATIC_REQUIRE(Two::name == "moe(halve+square)");
  // Scores ln 3 and 0 whatever the input: weights 3/4 and 1/4.
  const double ln3 = std::log(3.0);
  const std::vector<double> y = output<Two>({3, -1}, {0, 0, 0, 0, ln3, 0});
  CHECK(y[0] == Approx(0.75 * 1.5 + 0.25 * 9));
  CHECK(y[1] == Approx(0.75 * -0.5 + 0.25 * 1));
  // Of one active expert the intended rule takes all, the published rule e^s / (e^s + 1).
  const std::vector<double> alone =
      output<MixtureOfExperts<1, Routing::intended, Halve, Square>>({3, -1}, {0, 0, 0, 0, ln3, ln3 - 1});
  CHECK(alone[0] == Approx(1.5));
  const std::vector<double> shared =
      output<MixtureOfExperts<1, Routing::published, Halve, Square>>({3, -1}, {0, 0, 0, 0, ln3, ln3 - 1});
  CHECK(shared[0] == Approx(0.75 * 1.5 + 0.25 * 9));
  CHECK(check_layer<MixtureOfExperts<2, Routing::published, Mlp, Halve, Attn>>());
}

}  // namespace mad::testing
