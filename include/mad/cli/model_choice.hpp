// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Which model: what was asked for, and what follows from it for a task.
#pragma once

#include <mad/cli/layer_registry.hpp>
#include <mad/core/error.hpp>
#include <mad/cpu/architecture.hpp>
#include <mad/graph/fingerprint.hpp>
#include <mad/tasks/any_task.hpp>
#include <mad/train/fidelity.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mad::cli {

/// Position grid of a language model trained from the command line, as in the reference: filters are stretched over it.
inline constexpr Index default_max_length = 1280;

constexpr std::string_view name(Positions positions) {
  switch (positions) {
    case Positions::none:
      return "none";
    case Positions::learned:
      return "learned";
    case Positions::sinusoidal:
      return "sinusoidal";
  }
  return "";
}

constexpr std::string_view name(Pooling pooling) {
  switch (pooling) {
    case Pooling::last:
      return "last";
    case Pooling::cls:
      return "cls";
    case Pooling::average:
      return "avg";
  }
  return "";
}

/// A model as it was asked for. What is empty follows from the registry or the task.
struct ModelChoice {
  std::vector<std::string> layers = {};   ///< empty: the registry's default model
  std::optional<int> width = {};          ///< empty: the registry's default
  Norm norm = Norm::layer_norm;           ///< the benchmark's is RMSNorm
  std::optional<Backbone> backbone = {};  ///< empty: what the task needs
  std::optional<Index> max_length = {};   ///< empty: see `plan_model`
  Positions positions = Positions::none;
  Pooling pooling = Pooling::last;
};

/// A model that can be made: `cpu::Model<float>(plan.architecture, plan.options, seed, threads)`.
struct ModelPlan {
  std::vector<std::string> layers;  ///< full names
  std::string id;                   ///< shorthands joined by '-', such as mA-Sg-mA-Sg
  cpu::Architecture<float> architecture;
  ModelOptions options;

  /// Everything that determines the model, for the record of a run.
  nlohmann::ordered_json to_json() const {
    nlohmann::ordered_json j;
    j["id"] = id;
    j["layers"] = layers;
    j["dim"] = architecture.width;
    j["norm"] = name(architecture.norm);
    j["backbone"] = name(architecture.backbone);
    j["vocab_size"] = options.vocab_size;
    j["max_length"] = options.max_length;
    j["position_embeds"] = name(options.positions);
    if (architecture.backbone == Backbone::auto_encoder) j["pooling"] = name(options.pooling);
    Fingerprint fingerprint;
    for (const cpu::Block<float>* block : architecture.blocks) fingerprint.add(block->fingerprint);
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(fingerprint.value()));
    j["fingerprint"] = digits.data();
    return j;
  }
};

/// The model of `choice` for `task` in `setting` (checked before). A task that has to be learned through an encoding
/// gets an auto-encoder, which is made for exactly the task's row length.
/// \param fidelity which form of layers that have two
/// \param language_model_length grid of a language model where `choice.max_length` is empty, if the rows fit: the
/// reference's command line takes `default_max_length`, its benchmark `setting.seq_len`.
/// \throws UsageError if the layers are not there or the choice does not fit the task.
inline ModelPlan plan_model(const ModelChoice& choice, const LayerRegistry& registry, const tasks::Task& task,
                            const tasks::Setting& setting, train::Fidelity fidelity,
                            Index language_model_length = default_max_length) {
  const auto row_length = static_cast<Index>(task.row_length(setting));
  const Backbone backbone =
      choice.backbone.value_or(task.auto_encoder ? Backbone::auto_encoder : Backbone::language_model);
  if (task.auto_encoder && backbone == Backbone::language_model)
    throw UsageError("task '" + task.name + "' is learned through an encoding of the whole input: --backbone " +
                     std::string(name(backbone)) + " cannot do that. Leave --backbone out, or give auto-encoder.");
  ModelPlan plan;
  const std::vector<std::string> asked =
      registry.expanded(choice.layers.empty() ? registry.default_layers() : choice.layers);
  for (const std::string& layer : asked) {
    const LayerEntry& entry = registry.find(layer);
    plan.layers.push_back(entry.name);
    plan.id += (plan.id.empty() ? "" : "-") + entry.shorthand;
  }
  plan.architecture =
      registry.architecture(asked, choice.width.value_or(registry.default_width()), choice.norm, backbone, fidelity);
  plan.options.vocab_size = static_cast<Index>(setting.vocab_size);
  plan.options.positions = choice.positions;
  plan.options.pooling = choice.pooling;
  plan.options.max_length = choice.max_length.value_or(
      backbone == Backbone::auto_encoder ? row_length : std::max(language_model_length, row_length));
  if (plan.options.max_length < row_length)
    throw UsageError("--max-length is " + std::to_string(plan.options.max_length) + ", but the rows of '" + task.name +
                     "' have " + std::to_string(row_length) + " positions in this setting. Give at least that many.");
  if (backbone == Backbone::auto_encoder && plan.options.max_length != row_length)
    throw UsageError("--max-length is " + std::to_string(plan.options.max_length) + ", but an auto-encoder decodes " +
                     "exactly the " + std::to_string(row_length) + " positions of a row. Leave --max-length out.");
  if (backbone == Backbone::language_model && choice.pooling != Pooling::last)
    throw UsageError("--pooling " + std::string(name(choice.pooling)) +
                     " is for auto-encoders; a language model does "
                     "not pool. Leave it out, or give --backbone auto-encoder.");
  return plan;
}

}  // namespace mad::cli
