// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A model composed by name is the model of the same static stack.
#include "catch.hpp"
#include "cli/program.hpp"

#include <mad/cli/layer_registry.hpp>
#include <mad/cpu/model.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/tasks/registry.hpp>
#include <mad/train/safetensors.hpp>
#include <mad/train/trainer.hpp>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;

namespace {

struct Halve {
  static constexpr std::string_view name = "halve";
  static constexpr std::string_view description = "half of its input";
  static constexpr Value forward(Value x) { return x * 0.5; }
};
struct AlsoMlp {
  static constexpr std::string_view name = "other";
  static constexpr std::string_view shorthand = "M";
  static constexpr Value forward(Value x) { return x; }
};
struct Spaced {
  static constexpr std::string_view name = "two words";
  static constexpr Value forward(Value x) { return x; }
};

tasks::Setting small_setting() { return {.seq_len = 16, .num_train_examples = 64, .num_test_examples = 32}; }

/// Parameters after two epochs, as `small_training` does them.
std::vector<float> trained(const cpu::Architecture<float>& architecture) {
  const tasks::Dataset data = tasks::generate(small_setting());
  const auto train = tasks::compact(data.train);
  const auto test = tasks::compact(data.test);
  const train::TrainSettings settings{.epochs = 2, .batch_size = 32};
  cpu::Threads threads(2);
  cpu::Model<float> model(architecture, {.vocab_size = 16, .max_length = 1280}, settings.seed, threads);
  train::Trainer<cpu::Model<float>> trainer(model, train, test, settings);
  trainer.run();
  return {model.parameters(), model.parameters() + model.layout().size};
}

const cli::LayerRegistry& registry() {
  static const cli::LayerRegistry filled = [] {
    cli::LayerRegistry r;
    r.add<Attn, 64>("heads");
    r.add<SwiGLU, 64>();
    r.add<Halve, 8, 16>();
    r.add_backbones<8, 64>();
    return r;
  }();
  return filled;
}

}  // namespace

TEST_CASE("a model composed by name equals the static stack, number for number") {
  using Model = LanguageModel<Stack<Attn, SwiGLU>, 64>;
  const auto fixed = cpu::architecture<Model, float>();
  const auto named = registry().architecture({"mh-attention", "Sg"}, 64, Norm::layer_norm, Backbone::language_model);
  const std::vector<float> expected = trained(fixed);
  CHECK(trained(named) == expected);

  // And so does the program, which composes in another way and was compiled apart.
  const TemporaryFolder folder;
  REQUIRE(mad(folder.path(), small_training + Arguments{"--quiet", "--log-path", "run"}).status == 0);
  const auto best = train::Safetensors::read(folder / "run/checkpoints/best.safetensors");
  cpu::Threads threads(1);
  const cpu::Model<float> model(fixed, {.vocab_size = 16, .max_length = 1280}, 1, threads);
  for (const auto& info : model.layout().infos) {
    INFO(info.name);
    const auto begin = expected.begin() + info.offset;
    CHECK(best.values<float>(info.name) == std::vector<float>(begin, begin + info.size));
  }
}

TEST_CASE("composition follows norm, width and backbone") {
  const auto a = registry().architecture({"halve"}, 8, Norm::rms_norm, Backbone::auto_encoder);
  CHECK(a.width == 8);
  CHECK(a.blocks == std::vector{&cpu::block<Lowered<Residual<Norm::rms_norm, Halve>, 8>, float>});
  CHECK(a.head_norm == &cpu::block<Lowered<HeadNorm<Norm::rms_norm>, 8>, float>);
  CHECK(a.decoder == &cpu::block<Lowered<Decoder<Norm::rms_norm>, 8>, float>);
  CHECK(registry().architecture({"halve"}, 8, Norm::layer_norm, Backbone::language_model).decoder == nullptr);
  CHECK(registry().find("halve").description == "half of its input");
  CHECK(registry().find("mh-attention").description == "heads");
}

TEST_CASE("layers whose published form departs from the paper come in the form that the fidelity asks for") {
  cli::LayerRegistry r;
  r.add<MoeMlp, 16>();
  r.add<Mlp, 16>();
  r.add_backbones<16>();
  const auto blocks = [&](train::Fidelity fidelity) {
    return r.architecture({"moe-mlp", "mlp"}, 16, Norm::layer_norm, Backbone::language_model, fidelity).blocks;
  };
  const auto published = blocks(train::Fidelity::published);
  const auto intended = blocks(train::Fidelity::intended);
  CHECK(published.front() == &cpu::block<Lowered<Residual<Norm::layer_norm, MoeMlp>, 16>, float>);
  CHECK(intended.front() == &cpu::block<Lowered<Residual<Norm::layer_norm, MoeMlp::Intended>, 16>, float>);
  CHECK(intended.front()->fingerprint != published.front()->fingerprint);
  CHECK(intended.back() == published.back());
}

TEST_CASE("an architecture's name stands for its layers") {
  cli::LayerRegistry r;
  r.add<Attn, 8>();
  r.add<SwiGLU, 8>();
  r.add_architecture("transformer++", {"mh-attention", "Sg"});
  using Names = std::vector<std::string>;
  CHECK(r.expanded({"transformer++", "mA", "transformer++"}) ==
        Names{"mh-attention", "Sg", "mA", "mh-attention", "Sg"});
  CHECK_THROWS_WITH(r.add_architecture("transformer++", {"mA"}), ContainsSubstring("the name is taken"));
  CHECK_THROWS_WITH(r.add_architecture("swiglu", {"mA"}), ContainsSubstring("the name is taken"));
  CHECK_THROWS_WITH(r.add_architecture("other", {"mambo"}), ContainsSubstring("unknown layer 'mambo'"));
  CHECK_THROWS_WITH(r.find("transfomer++"), ContainsSubstring("Did you mean 'transformer++'?"));
}

TEST_CASE("what cannot be composed is refused in words") {
  const auto compose = [](const std::vector<std::string>& names, int width) {
    return registry().architecture(names, width, Norm::layer_norm, Backbone::language_model);
  };
  CHECK_THROWS_AS(compose({"mh-attention", "hlave"}, 64), UsageError);
  CHECK_THROWS_WITH(compose({"mh-attention", "hlave"}, 64),
                    ContainsSubstring("Did you mean 'halve'?") && ContainsSubstring("mh-attention (mA), swiglu (Sg)"));
  CHECK_THROWS_WITH(compose({}, 64), ContainsSubstring("at least one layer"));
  CHECK_THROWS_WITH(compose({"halve"}, 64), ContainsSubstring("'halve' is not compiled for width 64") &&
                                                ContainsSubstring("compiled for 8 and 16"));
  CHECK_THROWS_WITH(compose({"halve"}, 16), ContainsSubstring("backbones are not compiled for width 16"));
}

TEST_CASE("names are unique and fit for folders") {
  cli::LayerRegistry r;
  r.add<Mlp, 8>();
  CHECK_THROWS_AS((r.add<Mlp, 8>()), UsageError);
  CHECK_THROWS_WITH((r.add<AlsoMlp, 8>()), ContainsSubstring("'M' is the layer 'mlp' already"));
  CHECK_THROWS_WITH((r.add<Spaced, 8>()), ContainsSubstring("'two words'"));
  CHECK(r.layers().size() == 1);
}

}  // namespace mad::testing
