// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A model that the reference trained and saved is loaded by its own names and gives the same logits.
#include "golden_model.hpp"

#include "core/temporary_folder.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/train/checkpoint.hpp>

namespace mad::testing {

namespace {

using Catch::Matchers::ContainsSubstring;
using Net = Stack<Attention<AttentionOptions{.heads = 4}>, SwiGLU, HyenaLayer<HyenaOptions{.inner_factor = 2}>, SwiGLU>;
using Model = LanguageModel<Net, 16>;
constexpr ModelOptions options{.vocab_size = 16, .max_length = 24};

/// A fixture's parameters as a file of the reference has them: every tensor of the state, also those that are constants
/// or further names of a shared one. \p without: a key that is left out
void write_state(const train::Safetensors& fixture, const std::filesystem::path& path, const std::string& without) {
  train::SafetensorsWriter writer;
  for (const std::string& key : fixture.names()) {
    if (key.rfind("param.", 0) != 0 && key.rfind("buffer.", 0) != 0) continue;
    const std::string name = key.substr(key.find('.') + 1);
    if (name != without) writer.add(name, fixture.shape(key), fixture.values<double>(key));
  }
  writer.write(path);
}

}  // namespace

TEST_CASE("a model of the reference is loaded from safetensors") {
  const TemporaryFolder folder;
  const auto file = fixture("lm_attention-swiglu-hyena-swiglu_d16_l24");
  write_state(file, folder / "model.safetensors", "");
  cpu::Threads threads(1);
  cpu::Model<double> model(cpu::architecture<Model, double>(), options, 1, threads);
  const auto state = train::Safetensors::read(folder / "model.safetensors");
  train::load_parameters<double>(state, model.layout().infos, model.parameters());
  const auto inputs = tokens(file, "inputs");
  const auto targets = tokens(file, "targets");
  std::vector<Index> rows(static_cast<std::size_t>(file.shape("inputs")[0]));
  std::iota(rows.begin(), rows.end(), Index{0});
  const auto logits =
      model.logits({inputs.data(), targets.data(), file.shape("inputs")[1], file.shape("targets")[1], rows});
  CHECK(relative_error(logits.data(), file.values<double>("logits"), 1) < 1e-9);
}

TEST_CASE("a file that does not fit the model says which tensor") {
  const TemporaryFolder folder;
  const auto file = fixture("lm_attention-swiglu-hyena-swiglu_d16_l24");
  const std::string missing = "model.0.1.Wqkv.weight";
  write_state(file, folder / "short.safetensors", missing);
  cpu::Threads threads(1);
  cpu::Model<double> model(cpu::architecture<Model, double>(), options, 1, threads);
  const auto incomplete = train::Safetensors::read(folder / "short.safetensors");
  CHECK_THROWS_WITH(train::load_parameters<double>(incomplete, model.layout().infos, model.parameters()),
                    ContainsSubstring("short.safetensors") && ContainsSubstring(missing));

  write_state(file, folder / "whole.safetensors", "");
  cpu::Model<double> longer(cpu::architecture<Model, double>(), {.vocab_size = 16, .max_length = 25}, 1, threads);
  const auto whole = train::Safetensors::read(folder / "whole.safetensors");
  CHECK_THROWS_WITH(train::load_parameters<double>(whole, longer.layout().infos, longer.parameters()),
                    ContainsSubstring("whole.safetensors") && ContainsSubstring("pos_emb.z"));
}

}  // namespace mad::testing
